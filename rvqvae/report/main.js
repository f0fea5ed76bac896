/* What is shown after each change, and what keys and presses do. */

function say(text) {
  $("said").textContent = text;
}

function refresh() {
  const found = tally();
  $("count-kept").textContent = number(found.kept);
  $("count-dropped").textContent = number(found.dropped);
  paintThreshold(found);
  grid.paintAll();
  paintTabs();
  paintViewer();
  const todo = ranked.filter((row) => !keepsByThreshold(row) || decided(row));
  const done = todo.filter(decided).length;
  const more = decisions.size - done;
  $("progress-text").textContent =
    `${number(done)} of ${number(todo.length)} to drop reviewed${more ? `, and ${number(more)} more` : ""}`;
  $("progress").max = Math.max(1, todo.length);
  $("progress").value = done;
  $("undo").disabled = !undoable();
}

function changed() {
  store();
  refresh();
}

// After what says whether images belong; the threshold alone teaches nothing.
function taught() {
  learn();
  changed();
  drawHistogram();
  drawMap();
  ask();
}

/* ---- Keys ---- */

const onCards = () => grid.indexOf(document.activeElement) >= 0;
const ANYWHERE = {
  n: () => (onCards() ? goOn() : startReview()),
  u: undo,
  q: goToQuestions,
  "?": () => $("help").showModal(),
};
const ON_A_QUESTION = { b: () => answer(-1), d: () => answer(1), m: () => answer(0) };
const ON_A_CARD = {
  p: () => grid.goTo(grid.current - 1),
  ArrowRight: () => grid.goTo(grid.current + 1),
  ArrowLeft: () => grid.goTo(grid.current - 1),
  ArrowDown: () => grid.goTo(grid.current + grid.columns),
  ArrowUp: () => grid.goTo(grid.current - grid.columns),
  k: () => decideAndGoOn(true),
  d: () => decideAndGoOn(false),
  h: () => toggleHeat(grid.current),
  m: () => showAlike(currentRow()),
};
const IN_THE_VIEWER = {
  n: () => lookBy(1),
  p: () => lookBy(-1),
  ArrowRight: () => lookBy(1),
  ArrowLeft: () => lookBy(-1),
  k: () => decideViewed(true),
  d: () => decideViewed(false),
  h: toggleViewedHeat,
  m: () => showAlike(viewed),
  u: undo,
};
const AMONG_TILES = { k: () => markChosen(true), d: () => markChosen(false) };

function actionOf(key, target) {
  if ($("help").open) return undefined;
  if ($("alike").open) return AMONG_TILES[key];
  if (viewer.open) return IN_THE_VIEWER[key];
  if (grid.indexOf(target) < 0) return (questionInSight() && ON_A_QUESTION[key]) || ANYWHERE[key];
  if (key === "Enter" && target.matches(".card")) return () => openCard(target);
  return ON_A_CARD[key] ?? ANYWHERE[key];
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, input:not([type=checkbox], [type=range])")) return;
  const action = actionOf(event.key.length === 1 ? event.key.toLowerCase() : event.key, event.target);
  if (!action) return;
  event.preventDefault();
  action();
}

function openCard(element) {
  const row = currentRow();
  const side = element.closest("[data-side]")?.dataset.side ?? 1;
  if (TABS[tab].kind === "pair") look(sideRows(row)[side]);
  else if (TABS[tab].kind === "card") look(row);
}

const PRESSES = {
  ".export": download,
  ".help-button": () => $("help").showModal(),
  ".tile": toggleTile,
  "[data-all]": ({ dataset }) => markChosen(dataset.all === "true"),
  "#alike .close": () => $("alike").close(),
  "#viewer [data-keep]": ({ dataset }) => toggle(viewed, dataset.keep === "true"),
  "#viewer .before": () => lookBy(-1),
  "#viewer .after": () => lookBy(1),
  "#viewer .show-heat": toggleViewedHeat,
  "#viewer .like": () => showAlike(viewed),
  "#viewer .close": closeViewer,
  "#grid .picture": openCard,
  "#grid [data-keep]": ({ dataset }) => toggle(currentRow(), dataset.keep === "true"),
  "#grid [data-twins]": ({ dataset }) => decideTwins(currentRow(), dataset.twins),
  "[data-issue]": ({ dataset }) => openIssue(dataset.issue),
  "[data-listed]": ({ dataset }) => decide("issue", grid.items.slice(), dataset.listed === "true"),
  "[data-tab]": ({ dataset }) => openTab(dataset.tab),
  "[data-answer]": ({ dataset }) => answer(Number(dataset.answer)),
  "#samples .picture": ({ value }) => look(Number(value)),
  "#ask-all": showWholeGroup,
  "#ask-further": askFurther,
  "#ask-undo": undo,
  "#answered-undo": undo,
  "#start": startReview,
  "#undo": undo,
};

function onClick({ target }) {
  const button = target.closest("button");
  if (!button) return;
  if (grid.indexOf(button) >= 0) grid.setCurrent(grid.indexOf(button));
  for (const [selector, action] of Object.entries(PRESSES)) if (button.matches(selector)) action(button);
}

function start() {
  replay();
  lessonBefore = lesson();
  restore();
  rank();
  restoreAnswers();
  listenToThreshold();
  listenToMap();
  $("heat-label").hidden = !Object.keys(data.heat).length;
  for (const [name, { rows }] of Object.entries(TABS))
    if (["twins", "issues", "unreadable", "left", "unsure"].includes(name) && !rows().length)
      document.querySelector(`[data-tab="${name}"]`).hidden = true;
  if (!TABS.drop.rows().length) tab = "all";
  for (const id of ["filter", "order"]) $(id).addEventListener("change", arrange);
  $("heat").addEventListener("change", ({ target }) => document.body.classList.toggle("all-heat", target.checked));
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", ({ target }) => {
    const index = grid.indexOf(target);
    if (index >= 0 && index !== grid.current) grid.setCurrent(index);
  });
  arrange();
  refresh();
}

start();
