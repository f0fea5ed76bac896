/* One question at a time; each answer changes everything below it at once. */

const EXAMPLES = 12;
const ALL = 300; // of a group are shown at most
const PLANNED = 8;
const WHY = {
  likely: "Asked because nothing else is likelier not to belong.", doubt: "Asked because it is unclear.",
  check: "Asked again: your answer contradicts the others.", sample: "Asked because it is unclear.",
};
const SAID = { "-1": "Belongs", 1: "Does not belong", 0: "Left open" };

const asking = Boolean(RULE && parts.length);
let learned = null;
let lessonBefore = "";
let upcoming = []; // the next three questions
let further = false; // whether to go on although little is left

function said() {
  const samples = new Map(skipped);
  for (const [row, { about, keep }] of decisions)
    if (about === "image" && inView.has(row)) samples.set(inView.get(row), keep ? -1 : 1);
  return { parts: answers, samples, confirmed };
}

// What the answers teach, to tell whether it is what the manifest follows.
function lesson() {
  const { parts: groups, samples } = said();
  return JSON.stringify([groups, samples].map((all) => [...all].filter(([, value]) => value).sort()));
}

// To a question; an image that was reviewed among the cards was asked about by nobody.
const isAnswer = ([about]) => about === "part" || about === "sample";
const chanceOf = (i) => sigmoid(learned.logOdds[i] + data.view.cut);

// What is known now, as probabilities of all; with no other answers than the manifest follows, what it says.
function learn() {
  if (!asking) return;
  learned = relearn(said());
  const same = lesson() === lessonBefore;
  probability = same ? modelled : modelled.slice();
  if (!same) view.rows.forEach((row, i) => { probability[row] = chanceOf(i); });
  rank();
}

/* ---- Looks ---- */

function makeSample(i) {
  const item = $("sample").content.cloneNode(true).firstElementChild;
  const button = item.firstElementChild;
  button.value = view.rows[i];
  button.setAttribute("aria-label", `Open ${nameOf(view.rows[i])}`);
  draw(button.querySelector("canvas"), view.rows[i]);
  return item;
}

const membersOf = ({ part, sample }) => (part < 0 ? [sample] : innerOf(part));

// Evenly from the nearest to the centre to the farthest.
function spread(members) {
  const step = Math.max(1, (members.length - 1) / (EXAMPLES - 1));
  const places = Array.from({ length: Math.min(EXAMPLES, members.length) }, (_, k) => Math.round(k * step));
  return places.map((place) => members[place]);
}

function paintQuestion() {
  const [question] = upcoming;
  const gain = Math.round(upcoming.reduce((sum, one) => sum + one.gain, 0));
  const little = gain < RULE.worth;
  const over = !question || (!further && (state.history.length > 0 || little) && upcoming[0].gain < RULE.worth);
  $("asked").hidden = over;
  $("answered").hidden = !over;
  $("ask-further").hidden = !question;
  for (const button of document.querySelectorAll("#ask-undo, #answered-undo")) button.disabled = !undoable();
  $("gain").textContent = little ? "Three more answers would change hardly any image."
    : `Three more answers would change about ${number(gain)} ${gain === 1 ? "image" : "images"}.`;
  if (over) return;
  const single = question.part < 0;
  const members = membersOf(question);
  const step = state.history.filter(isAnswer).length + 1;
  $("step").textContent = step > PLANNED ? `Question ${number(step)}` : `Question ${step} of about ${PLANNED}`;
  $("questions-title").textContent = single ? "Does this one belong?" : "Do these belong?";
  const share = members.reduce((sum, i) => sum + chanceOf(i), 0) / members.length;
  $("ask-about").textContent = `${single ? nameOf(view.rows[members[0]]) : `${number(members.length)} images that look alike`}, `
    + `so far ${Math.round(100 * (1 - share))} % likely to belong. ${WHY[question.why]}`;
  $("samples").classList.toggle("single", single);
  $("samples").replaceChildren(...spread(members).map(makeSample));
  $("ask-all").hidden = members.length <= EXAMPLES;
  $("ask-all").textContent = `Show all ${number(members.length)}`;
  document.querySelector('[data-answer="0"] span').textContent = single ? "Can’t say" : "Mixed";
}

function ask() {
  if (!asking) return;
  upcoming = questions(learned, said(), 3);
  paintQuestion();
}

function showWholeGroup() {
  $("samples").replaceChildren(...membersOf(upcoming[0]).slice(0, ALL).map(makeSample));
  $("ask-all").hidden = true;
}

/* ---- Answers ---- */

function answer(value) {
  if ($("asked").hidden) return;
  const before = Array.from({ length: count }, (_, row) => keeps(row));
  const { part, sample } = upcoming[0];
  state.history.push(part >= 0 ? ["part", part, value] : ["sample", sample, value]);
  replay();
  taught();
  if (view.rows.every((row) => probability[row] > data.threshold)) {
    undo();
    $("effect").textContent = "By this answer nothing would belong, so it is not taken: mark what does belong.";
    say($("effect").textContent);
    return;
  }
  arrange();
  const moved = before.filter((keep, row) => keep !== keeps(row)).length;
  $("effect").textContent = `${SAID[value]}: ${number(moved)} ${moved === 1 ? "image" : "images"} changed.`;
  say(`${$("effect").textContent} ${$("asked").hidden ? $("answered").querySelector("h2").textContent : $("step").textContent}`);
}

// Only what is in sight is answered by a key.
function questionInSight() {
  if (!asking || $("asked").hidden) return false;
  const { top, bottom } = $("asked").getBoundingClientRect();
  return Math.min(bottom, innerHeight - 72) - Math.max(top, 0) > (bottom - top) / 2;
}

function goToQuestions() {
  if (!asking) return;
  $("questions").scrollIntoView({ block: "start" });
  document.querySelector($("asked").hidden ? "#ask-further" : '[data-answer="-1"]').focus({ preventScroll: true });
}

function askFurther() {
  further = true;
  ask();
}

// A stored review may be of a page with other questions.
function restoreAnswers() {
  $("questions").hidden = !asking;
  for (const item of document.querySelectorAll(".about-questions")) item.hidden = !asking;
  const fits = ([about, what]) =>
    about === "part" ? what < parts.length : about !== "sample" || (asking && what < view.rows.length);
  state.history = state.history.filter(fits);
  replay();
  learn();
  ask();
}
