/* Which images are listed, how each card looks, and what its keys and buttons do. */

const UNSURE = [0.1, 0.9];
const WORDS = { true: "✓ keep", false: "✕ drop" };

const TABS = {
  drop: { rows: () => ranked.filter((row) => !keeps(row)), kind: "card", note: "Dropped unless you keep them." },
  unsure: {
    rows: () => ranked.filter((row) => probability[row] >= UNSURE[0] && probability[row] <= UNSURE[1]),
    kind: "card", note: `A probability from ${UNSURE[0]} to ${UNSURE[1]}: a look helps most here.`,
  },
  keep: { rows: () => ranked.filter(keeps), kind: "card", note: "Kept unless you drop them, the most outlying first." },
  twins: {
    rows: () => [...twinOf.keys()], kind: "pair",
    note: "The same picture twice: byte for byte, or compressed or resized. Of exact copies the first is kept.",
  },
  issues: {
    rows: () => ranked.filter((row) => (issue === "" ? issuesOf[row].length : issuesOf[row].includes(issue))),
    all: () => flawed, kind: "card", about: "issue",
    note: "Nothing is dropped for an issue, unless you drop it. What you decide here says nothing of what belongs.",
  },
  unreadable: {
    rows: () => columns.status.flatMap((status, row) => (status === "unreadable" ? [row] : [])), kind: "file",
    note: "Files with the name of an image that are damaged or hold none.",
  },
  left: { rows: () => Object.keys(data.left_out), kind: "suffix", note: "Files that do not have the name of an image, by suffix." },
  some: { rows: () => selected, kind: "card", note: "The images that you drew around on the map." },
  all: { rows: () => ranked, kind: "card", note: "Every image that could be read, each once." },
};
let tab = "drop";
let selected = [];
let issue = ""; // of which images are listed; all, if empty
const flawed = [...issuesOf.keys()].filter((row) => issuesOf[row].length);

/* ---- Looks ---- */

// There is room for the file's own name; the title has the whole path.
const lastOf = (row) => nameOf(row).split("/").at(-1);
const stateOf = (row) => (decided(row) ? "by hand" : "");
const sideRows = (row) => [twinOf.get(row).origin, row];

function paintState(element, row) {
  const keep = keeps(row);
  element.classList.toggle("dropped", !keep);
  element.querySelector(".badge").textContent = WORDS[keep];
  element.querySelector(".by").textContent = stateOf(row);
  element.querySelector(".chance").textContent = chance(row);
  for (const button of element.querySelectorAll("[data-keep]"))
    button.setAttribute("aria-pressed", decided(row) && String(keep) === button.dataset.keep);
}

function fillCard(card, row) {
  draw(card.querySelector("canvas"), row);
  const heat = card.querySelector(".heat");
  heat.classList.remove("on");
  if (data.heat[row]) heat.src = data.heat[row];
  else heat.removeAttribute("src");
  heat.style.aspectRatio = card.querySelector("canvas").style.aspectRatio;
  heat.classList.toggle("tall", card.querySelector("canvas").classList.contains("tall"));
  card.querySelector(".name bdi").textContent = lastOf(row);
  card.querySelector(".name").title = nameOf(row);
  fillFlaws(card, row);
}

// What a person may want to see of an image, and the class that it is said to be of.
function fillFlaws(element, row) {
  const [label, other] = [columns.label[row], columns.suggested_label[row]].map(shown);
  const words = issuesOf[row].map((kind) => (kind === "likely mislabelled" ? `${label}, or ${other}?` : kind));
  element.querySelector(".flaws").textContent = words.join(", ");
  element.querySelector(".flaws").title = words.join(", ");
}

function paintCard(card, row) {
  paintState(card, row);
  card.setAttribute("aria-label",
    `${nameOf(row)}, outlier probability ${chance(row) || "unknown"}, ${keeps(row) ? "keep" : "drop"} ${stateOf(row) || "by threshold"}`
    + issuesOf[row].map((kind) => `, ${kind}`).join(""));
}

const TWIN_WORDS = {
  exact: "the same picture", near: "nearly the same picture", conflict: "the same picture in two classes",
};

function fillPair(card, row) {
  card.querySelectorAll("figure").forEach((figure, side) => {
    const one = sideRows(row)[side];
    draw(figure.querySelector("canvas"), one);
    figure.querySelector("bdi").textContent = lastOf(one);
    figure.title = nameOf(one);
  });
  card.querySelector(".kind").textContent = `${TWIN_WORDS[twinOf.get(row).kind]}; keep`;
}

const choiceOf = (row) => {
  const [first, second] = sideRows(row).map(keeps);
  return first && second ? "both" : first ? "first" : second ? "second" : "none";
};

function paintPair(card, row) {
  card.querySelectorAll("figure").forEach((figure, side) => {
    const keep = keeps(sideRows(row)[side]);
    figure.classList.toggle("dropped", !keep);
    figure.querySelector(".badge").textContent = keep ? "✓" : "✕";
  });
  const by = sideRows(row).some(decided) ? "by hand" : "";
  card.querySelector(".by").textContent = by;
  card.setAttribute("aria-label", `${nameOf(sideRows(row)[0])} and ${nameOf(row)}, kept: ${choiceOf(row)}`);
  for (const button of card.querySelectorAll("[data-twins]"))
    button.setAttribute("aria-pressed", by !== "" && choiceOf(row) === button.dataset.twins);
}

// By suffix, or in words such as "hidden files".
function leftOut(kind) {
  const count = data.left_out[kind];
  const words = kind.startsWith(".") ? `files ${shown(kind)}` : shown(kind);
  return `${number(count)} ${count === 1 ? words.replace("files", "file") : words}`;
}

function fillFile(card, item) {
  const suffix = typeof item === "string";
  card.querySelector(".badge").textContent = suffix ? "no image" : "unreadable";
  card.querySelector(".name bdi").textContent = suffix ? leftOut(item) : nameOf(item);
  card.querySelector(".why").textContent = suffix ? "" : shown(columns.reason[item]);
  card.setAttribute("aria-label", card.querySelector(".name").textContent);
}

const KINDS = {
  card: { template: "card", least: 168, height: (width) => width + (flawed.length ? 128 : 108), fill: fillCard, paint: paintCard },
  pair: { template: "pair", least: 340, height: (width) => width / 2 + 120, fill: fillPair, paint: paintPair },
  file: { template: "file", least: 300, height: () => 148, fill: fillFile, paint: () => {} },
  suffix: { template: "file", least: 220, height: () => 80, fill: fillFile, paint: () => {} },
};
const grid = new Grid($("grid"), KINDS);
const currentRow = () => grid.items[grid.current];

/* ---- What is listed ---- */

const distance = (row) => Math.abs(probability[row] - cutAt());
const ORDERS = {
  outlying: (a, b) => rankOf[a] - rankOf[b],
  normal: (a, b) => rankOf[b] - rankOf[a],
  name: (a, b) => compare(columns.path[a], columns.path[b]),
  borderline: (a, b) => distance(a) - distance(b) || rankOf[a] - rankOf[b],
};
const FILTERS = { all: () => true, open: (row) => !decided(row), done: decided };

// Only when asked: no image vanishes or moves under the reviewer's hands.
function arrange() {
  const { rows, kind, note } = TABS[tab];
  const before = currentRow();
  let items = rows();
  if (kind === "card") {
    items = items.filter(FILTERS[$("filter").value]);
    if ($("order").value !== "outlying") items = items.slice().sort(ORDERS[$("order").value]);
  } else if (kind === "pair") {
    items = items.filter((row) => FILTERS[$("filter").value](row) || FILTERS[$("filter").value](twinOf.get(row).origin));
  }
  document.querySelector(".sorting").classList.toggle("idle", kind !== "card");
  $("tab-note").textContent = note;
  $("empty").hidden = items.length > 0;
  $("empty").textContent = $("filter").value === "all" ? "None." : "None of these.";
  for (const button of document.querySelectorAll("[data-tab]"))
    button.setAttribute("aria-pressed", button.dataset.tab === tab);
  grid.show(items, kind, Math.max(0, items.indexOf(before)));
  paintKinds();
  paintTabs();
}

// A chip for each kind of issue, and two buttons for all that are listed.
function paintKinds() {
  $("kinds").hidden = tab !== "issues";
  if (tab !== "issues") return;
  const counts = new Map([["", flawed.length]]);
  for (const row of flawed) for (const kind of issuesOf[row]) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const made = (text, attributes) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    for (const [name, value] of Object.entries(attributes)) button.setAttribute(name, value);
    return button;
  };
  const chips = [...counts].map(([kind, many]) =>
    made(`${kind || "all"} ${number(many)}`, { "data-issue": kind, "aria-pressed": kind === issue }));
  const listed = number(grid.items.length);
  $("kinds").replaceChildren(
    ...chips, made(`✓ Keep these ${listed}`, { "data-listed": true }), made(`✕ Drop these ${listed}`, { "data-listed": false }));
}

function openIssue(kind) {
  issue = kind;
  arrange();
  document.querySelector(`[data-issue="${kind}"]`).focus();
}

function paintTabs() {
  for (const button of document.querySelectorAll("[data-tab]"))
    button.querySelector("span").textContent = number((TABS[button.dataset.tab].all ?? TABS[button.dataset.tab].rows)().length);
}

function openTab(name) {
  tab = name;
  $("filter").value = "all";
  document.querySelector('[data-tab="some"]').hidden = !selected.length;
  arrange();
}

/* ---- Decisions ---- */

function decide(about, rows, keep, words) {
  state.history.push([about, rows, keep]);
  replay();
  if (about === "image") taught();
  else changed();
  say(`${words ?? (keep === null ? "No longer decided by hand" : keep ? "Kept" : "Dropped")}: `
    + `${rows.length > 1 ? `${number(rows.length)} images` : nameOf(rows[0])}. ${$("progress-text").textContent}`);
}

// Pressed once more, the image follows the threshold again.
function toggle(row, keep) {
  decide(TABS[tab].about ?? "image", [row], decisions.get(row)?.keep === keep ? null : keep);
}

function decideTwins(row, which) {
  const rows = sideRows(row);
  if (which !== "both") {
    const order = which === "first" ? rows : rows.slice().reverse();
    state.history.push(["twins", [order[0]], true]);
    decide("twins", [order[1]], false, "Dropped the other");
  } else decide("twins", rows, true, "Kept both");
}

function decideAndGoOn(keep) {
  const row = currentRow();
  if (tab === "twins") decideTwins(row, keep ? "both" : "first");
  else if (TABS[tab].kind !== "card") return;
  else if (decisions.get(row)?.keep !== keep) toggle(row, keep);
  goOn();
}

function goOn() {
  if (grid.current < grid.items.length - 1) {
    grid.goTo(grid.current + 1);
    return;
  }
  // What was decided teaches: since the list was made, more may have come to it.
  const listed = new Set(grid.items);
  const more = TABS[tab].kind === "card" ? TABS[tab].rows().filter((row) => !listed.has(row) && !decided(row)).length : 0;
  if (!more) {
    say("That was the last one.");
    return;
  }
  arrange();
  startReview();
  say(`${number(more)} more came here by what you decided.`);
}

function undo() {
  if (!undoable()) return;
  const undone = state.history.pop();
  const [about, what] = undone;
  // What is done with one press is undone with one.
  const before = state.history.at(-1);
  if (about === "twins" && what.length === 1 && before?.[0] === "twins" && before[1].length === 1) state.history.pop();
  replay();
  taught();
  if (isAnswer(undone)) {
    arrange();
    $("effect").textContent = "Undone.";
    say(`Undone. ${$("step").textContent}`);
    return;
  }
  say(`Undone: ${what.length > 1 ? `${number(what.length)} images` : nameOf(what[0])}`);
  const index = grid.items.indexOf(what[0]);
  if (index >= 0 && KINDS[TABS[tab].kind].template !== "file" && !questionInSight()) grid.goTo(index);
}

function toggleHeat(index) {
  const heat = grid.shown.get(index)?.querySelector(".heat");
  if (heat?.hasAttribute("src")) heat.classList.toggle("on");
  else say("There is no heat map of this image.");
}

function startReview() {
  const open = grid.items.findIndex((item) => !decided(item));
  grid.goTo(open < 0 ? 0 : open);
}

/* ---- Many at once: what is alike, or was drawn around ---- */

const ALIKE = 12;
const chosen = () => [...document.querySelectorAll('.tile[aria-pressed="true"]')].map((one) => Number(one.value));

function makeTile(row) {
  const item = $("tile").content.cloneNode(true).firstElementChild;
  const button = item.firstElementChild;
  button.value = row;
  button.title = nameOf(row);
  button.classList.toggle("dropped", !keeps(row));
  button.setAttribute("aria-label",
    `${nameOf(row)}, outlier probability ${chance(row) || "unknown"}, now ${keeps(row) ? "kept" : "dropped"}`);
  draw(button.querySelector("canvas"), row);
  button.querySelector(".badge").textContent = keeps(row) ? "✓" : "✕";
  button.querySelector(".chance").textContent = chance(row);
  return item;
}

function showAlike(row) {
  const rows = alike(row, ALIKE);
  if (!rows.length) return;
  $("alike-title").textContent = `Most like ${nameOf(row)}`;
  $("alike").querySelector(".tiles").replaceChildren(...[row, ...rows].map(makeTile));
  countChosen();
  $("alike").showModal();
}

function toggleTile(button) {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  countChosen();
}

function countChosen() {
  const { length } = chosen();
  for (const button of $("alike").querySelectorAll("[data-all]")) {
    button.querySelector("span").textContent = number(length);
    button.disabled = !length;
  }
}

function markChosen(keep) {
  const rows = chosen();
  if (!rows.length) return;
  $("alike").close();
  decide("image", rows, keep);
}
