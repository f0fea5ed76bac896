"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
// One array for each column of the manifest, in its order; every cell is the text that the manifest has.
const columns = data.columns;
const count = columns.path.length;
const probability = columns.outlier_probability.map((text, row) =>
  columns.status[row] === "ok" && text !== "" ? Number(text) : NaN);
const score = columns.score.map((text) => (text === "" ? NaN : Number(text)));
const original = columns.keep.map((text) => text === "true");
const scored = probability.filter((p) => !Number.isNaN(p));

const BY_HAND = "reviewed by hand";
const BINS = 50;
const PAGE = 200; // files, and
const FIRST = 24; // cards of a section, and
const FIRST_GROUPS = 5; // that are shown before more are asked for

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en-US");
const cut = (value) => String(Math.round(value * 1e4) / 1e4);
const chance = (row) => (Number.isNaN(probability[row]) ? "no probability" : probability[row].toFixed(3));

// Control and direction characters are shown as what they are; bytes that are no UTF-8 as �.
function shown(path) {
  return path
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\ud800-\udfff]/gu, "\ufffd")
    .replace(/[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
}

/* ---- Decisions: a history of [row, rows or {group}, keep or null], of which the last word on a row counts ---- */

const state = { threshold: data.threshold, history: [] };
const decisions = new Map();

const rowsOf = (what) => data.groups[what?.group]?.rows ?? [what].flat();

function replay() {
  decisions.clear();
  for (const [what, keep] of state.history) {
    for (const row of rowsOf(what)) {
      if (keep === null) decisions.delete(row);
      else decisions.set(row, keep);
    }
  }
}

function restore() {
  try {
    const saved = JSON.parse(localStorage.getItem(data.key));
    const grouped = data.groups.flatMap((group) => group.rows);
    const reviewable = new Set([...data.cards.flatMap((card) => [card.row, ...card.alike]), ...grouped]);
    const valid = ([what, keep]) =>
      rowsOf(what).every((row) => reviewable.has(row)) && (keep === null || typeof keep === "boolean");
    if (!(saved.threshold >= 0 && saved.threshold <= 1 && saved.history.every(valid))) return;
    Object.assign(state, { threshold: saved.threshold, history: saved.history });
    replay();
  } catch {
    // Storage may be refused, empty or foreign: the review then starts afresh.
  }
}

function store() {
  try {
    localStorage.setItem(data.key, JSON.stringify(state));
  } catch {
    // Without storage the page works, but forgets the review when it is closed.
  }
}

function keepsByThreshold(row) {
  // Untouched, the page says exactly what the manifest says.
  if (state.threshold === data.threshold || Number.isNaN(probability[row])) return original[row];
  return probability[row] <= state.threshold;
}

const keeps = (row) => decisions.get(row) ?? keepsByThreshold(row);

function tally() {
  const result = { kept: 0, dropped: 0 };
  for (let row = 0; row < count; row++) {
    if (keeps(row)) result.kept++;
    else if (columns.status[row] === "ok") result.dropped++;
  }
  return result;
}

/* ---- Histogram ---- */

function svg(name, attributes, text) {
  const element = document.createElementNS($("histogram").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const bins = new Array(BINS).fill(0);
for (const p of scored) bins[Math.max(0, Math.min(BINS - 1, Math.floor(p * BINS)))]++;
const most = Math.max(...bins);
const filled = bins.filter((n) => n).sort((a, b) => a - b);
// One high bar would make all others invisible.
const logarithmic = filled.length > 1 && most > 20 * filled[filled.length >> 1];
const height = (n) => (logarithmic ? Math.log1p(n) / Math.log1p(most) : n / most);
let place = () => {};

function ticks() {
  if (logarithmic) return [1, 10, 100, 1e3, 1e4, 1e5, 1e6].filter((n) => n <= most);
  const power = 10 ** Math.floor(Math.log10(most));
  const step = Math.max(1, [0.2, 0.5, 1, 2, 5].map((f) => f * power).find((s) => most / s <= 4));
  return Array.from({ length: Math.floor(most / step) }, (_, i) => (i + 1) * step);
}

function drawHistogram() {
  const plot = $("histogram");
  const slider = document.querySelector(".slider");
  const [left, width] = [slider.offsetLeft - plot.parentElement.offsetLeft, slider.clientWidth];
  const [top, bottom] = [34, plot.clientHeight];
  const x = (value) => left + value * width;
  const y = (n) => bottom - height(n) * (bottom - top);
  const bars = bins.flatMap((n, i) =>
    n ? [`M${x(i / BINS) + 0.5} ${bottom}V${Math.min(y(n), bottom - 2)}H${x((i + 1) / BINS) - 0.5}V${bottom}Z`] : []);
  const clip = svg("clipPath", { id: "above" });
  const above = svg("rect", { y: 0, height: bottom });
  clip.append(above);
  const line = svg("line", { class: "cut", y1: 4, y2: bottom });
  const keep = svg("text", { class: "side", y: 14, "text-anchor": "end" }, "✓ keep");
  const drop = svg("text", { class: "side drop", y: 14 }, "drop ✕");
  plot.replaceChildren(
    clip,
    ...ticks().flatMap((n) => [
      svg("line", { x1: left, x2: left + width, y1: y(n), y2: y(n) }),
      svg("text", { x: left - 8, y: y(n) + 4, "text-anchor": "end" }, number(n)),
    ]),
    svg("path", { class: "kept", d: bars.join("") }),
    svg("path", { class: "dropped", d: bars.join(""), "clip-path": "url(#above)" }),
    line, keep, drop,
  );
  place = () => {
    const at = x(state.threshold);
    above.setAttribute("x", at);
    above.setAttribute("width", Math.max(0, left + width - at));
    line.setAttribute("x1", at);
    line.setAttribute("x2", at);
    keep.setAttribute("x", at - 10);
    drop.setAttribute("x", at + 10);
    // At either end there is no room for one of the two labels.
    keep.toggleAttribute("hidden", at - left < 70);
    drop.toggleAttribute("hidden", left + width - at < 70);
  };
  place();
}

/* ---- Cards ---- */

const small = 128; // pixels; below it an image is enlarged with crisp edges

function makeCard({ row, section, size, alike, ...pictures }) {
  const item = $("card").content.cloneNode(true).firstElementChild;
  const element = item.firstElementChild;
  element.classList.toggle("small", size < small);
  element.querySelector(".image").alt = shown(columns.path[row]);
  element.querySelector(".name bdi").textContent = shown(columns.path[row]);
  element.querySelector(".name").title = shown(columns.path[row]);
  element.querySelector(".chance").textContent = chance(row);
  element.querySelector(".likeness").hidden = !alike.length;
  return { row, section, item, element, pictures, alike };
}

const cards = data.cards.map(makeCard);
const cardOf = new Map(cards.map((card) => [card.element, card]));
let visible = cards;
let current = null;

const nearby = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    nearby.unobserve(target);
    for (const [name, source] of Object.entries(cardOf.get(target).pictures))
      target.querySelector(`.${name}`).src = source;
  }
}, { rootMargin: "800px" });
cards.forEach((card) => nearby.observe(card.element));

function paintCard({ row, element }) {
  const keep = keeps(row);
  const by = decisions.has(row) ? "by hand" : "";
  const word = keep ? "keep" : "drop";
  element.classList.toggle("dropped", !keep);
  element.querySelector(".badge").textContent = keep ? "✓ keep" : "✕ drop";
  element.querySelector(".by").textContent = by;
  element.setAttribute("aria-label",
    `${shown(columns.path[row])}, outlier probability ${chance(row)}, ${word} ${by || "by threshold"}`);
  for (const button of element.querySelectorAll("[data-keep]"))
    button.setAttribute("aria-pressed", decisions.has(row) && String(keep) === button.dataset.keep);
}

const worst = (a, b) => compare(probability[b.row], probability[a.row]) || compare(score[a.row], score[b.row]);
const distance = ({ row }) => Math.abs(probability[row] - state.threshold);
const ORDERS = {
  outlying: worst,
  normal: (a, b) => worst(b, a),
  name: (a, b) => (columns.path[a.row] < columns.path[b.row] ? -1 : 1),
  borderline: (a, b) => compare(distance(a), distance(b)),
};
const FILTERS = {
  all: () => true,
  drop: ({ row }) => !keeps(row),
  keep: ({ row }) => keeps(row),
  open: ({ row }) => !decisions.has(row),
  done: ({ row }) => decisions.has(row),
};

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

// Only when asked: no image vanishes or moves under the reviewer's hands.
function arrange() {
  visible = [];
  for (const group of document.querySelectorAll(".group")) {
    const name = group.dataset.section;
    const order = $("order").value === "section" ? name : $("order").value;
    const members = cards.filter((card) => card.section === name);
    const some = members.filter(FILTERS[$("filter").value]).sort(ORDERS[order]);
    group.hidden = !members.length;
    group.querySelector(".cards").replaceChildren(...some.map((card) => card.item));
    group.querySelector(".size").textContent = number(some.length);
    group.querySelector(".empty").hidden = some.length > 0;
    fold(group);
    visible.push(...some);
  }
  setCurrent(visible.includes(current) ? current : visible[0] ?? null);
}

function fold(group) {
  const items = [...group.querySelectorAll(".cards > li")];
  const open = "open" in group.dataset || items.length <= FIRST;
  items.forEach((item, index) => { item.hidden = !open && index >= FIRST; });
  group.querySelector(".more").textContent = `Show all ${number(items.length)}`;
  group.querySelector(".more").hidden = open;
}

function unfold(group) {
  group.dataset.open = "";
  fold(group);
}

// One card at a time is a stop of the Tab key; the arrow keys go to the others.
function setCurrent(card) {
  for (const [one, index] of [[current, -1], [card, 0]])
    if (one) for (const stop of [one.element, ...one.element.querySelectorAll("button")]) stop.tabIndex = index;
  current = card;
}

function goTo(card) {
  if (!card) return;
  if (card.item.hidden) unfold(card.item.closest(".group"));
  card.element.focus();
}

function goBy(steps) {
  const index = visible.indexOf(current) + steps;
  goTo(visible[Math.max(0, Math.min(visible.length - 1, index))]);
}

function columnsOfCards() {
  const tops = [...current.item.parentElement.children].map((item) => item.offsetTop);
  return tops.filter((top) => top === tops[0]).length;
}

function showMore(group) {
  const next = group.querySelector(".cards > li[hidden]");
  unfold(group);
  next.firstElementChild.focus();
}

function startReview() {
  goTo(visible.find(FILTERS.open) ?? visible[0]);
}

/* ---- What a person does ---- */

function refresh() {
  const { kept, dropped } = tally();
  $("count-kept").textContent = number(kept);
  $("count-dropped").textContent = number(dropped);
  $("outcome").textContent = `Threshold ${cut(state.threshold)}: ${number(kept)} kept, ${number(dropped)} dropped`;
  $("threshold").value = state.threshold;
  $("threshold").setAttribute("aria-valuetext", `${cut(state.threshold)}: ${number(dropped)} dropped`);
  $("histogram").setAttribute("aria-label",
    `Histogram of the outlier probability: ${number(kept)} images kept, ${number(dropped)} dropped`);
  $("reset").disabled = state.threshold === data.threshold;
  place();
  cards.forEach(paintCard);
  groups.forEach(paintGroup);
  const done = cards.filter(FILTERS.done).length;
  const others = decisions.size - done;
  $("progress-text").textContent =
    `${number(done)} of ${number(cards.length)} reviewed${others ? `, and ${number(others)} more` : ""}`;
  $("progress").value = done;
  $("undo").disabled = !state.history.length;
}

function changed() {
  store();
  refresh();
}

function say(text) {
  $("said").textContent = text;
}

function moveThreshold(value) {
  state.threshold = value;
  changed();
}

function decide(card, keep) {
  const again = decisions.get(card.row) === keep;
  state.history.push([card.row, again ? null : keep]);
  replay();
  changed();
  say(`${again ? "No longer decided by hand" : keep ? "Kept" : "Dropped"}: ${shown(columns.path[card.row])}. `
    + $("progress-text").textContent);
}

function decideAndGoOn(card, keep) {
  if (decisions.get(card.row) !== keep) decide(card, keep);
  if (card === visible.at(-1)) say("That was the last image.");
  else goBy(1);
}

// The card that the last decision was on, if it is shown.
function undo() {
  const last = state.history.pop();
  if (!last) return undefined;
  replay();
  changed();
  const rows = rowsOf(last[0]);
  say(`Undone: ${rows.length > 1 ? `${rows.length} images` : shown(columns.path[rows[0]])}`);
  return visible.find(({ row }) => row === rows[0]);
}

function toggleHeat(card) {
  const picture = card.element.querySelector("button.picture");
  picture.setAttribute("aria-pressed", picture.getAttribute("aria-pressed") !== "true");
}

function mark(what, keep) {
  state.history.push([what, keep]);
  replay();
  changed();
  const word = keep === null ? "No longer decided by hand" : keep ? "Kept" : "Dropped";
  say(`${word}: ${number(rowsOf(what).length)} images. ${$("progress-text").textContent}`);
}

/* ---- Images alike ---- */

const cardAt = new Map(cards.map((card) => [card.row, card]));
const thumbnail = (row) => cardAt.get(row)?.pictures.image ?? data.thumbnails[row];
const chosen = () => [...document.querySelectorAll('.tile[aria-pressed="true"]')].map((tile) => Number(tile.value));

function makeTile(row) {
  const item = $("tile").content.cloneNode(true).firstElementChild;
  const tile = item.firstElementChild;
  const keep = keeps(row);
  tile.value = row;
  tile.title = shown(columns.path[row]);
  tile.classList.toggle("dropped", !keep);
  tile.setAttribute("aria-label",
    `${shown(columns.path[row])}, outlier probability ${chance(row)}, now ${keep ? "kept" : "dropped"}`);
  tile.querySelector("img").src = thumbnail(row);
  tile.querySelector("img").addEventListener("load", ({ target }) =>
    tile.classList.toggle("small", Math.max(target.naturalWidth, target.naturalHeight) <= 32));
  tile.querySelector(".badge").textContent = keep ? "✓" : "✕";
  tile.querySelector(".chance").textContent = chance(row);
  return item;
}

function showAlike({ row, alike }) {
  if (!alike.length) return;
  $("alike-title").querySelector("bdi").textContent = shown(columns.path[row]);
  $("alike").querySelector(".tiles").replaceChildren(...[row, ...alike].map(makeTile));
  countChosen();
  $("alike").showModal();
}

function toggleTile(tile) {
  tile.setAttribute("aria-pressed", tile.getAttribute("aria-pressed") !== "true");
  countChosen();
}

function countChosen() {
  const { length } = chosen();
  for (const button of $("alike").querySelectorAll("[data-all]")) {
    button.querySelector("span").textContent = number(length);
    button.disabled = !length;
  }
}

function markAlike(keep) {
  const rows = chosen();
  if (!rows.length) return;
  $("alike").close();
  mark(rows, keep);
}

/* ---- Groups ---- */

function makeGroup({ shown: few }, index) {
  const item = $("kin").content.cloneNode(true).firstElementChild;
  item.hidden = index >= FIRST_GROUPS;
  item.querySelector(".which").textContent = number(index + 1);
  item.querySelector(".strip").append(...few.map(makePicture));
  for (const button of item.querySelectorAll("button")) button.value = index;
  return item;
}

function makePicture(row) {
  const picture = document.createElement("img");
  picture.alt = picture.title = shown(columns.path[row]);
  picture.addEventListener("load", () =>
    picture.classList.toggle("small", Math.max(picture.naturalWidth, picture.naturalHeight) <= 32));
  picture.src = thumbnail(row);
  return picture;
}

const groups = data.groups.map(makeGroup);

function paintGroup(item, index) {
  const { rows } = data.groups[index];
  const dropped = rows.filter((row) => !keeps(row)).length;
  item.querySelector(".size").textContent = `${number(rows.length)} images`;
  item.querySelector(".now").textContent = `${number(dropped)} dropped`;
  item.classList.toggle("dropped", dropped > 0);
  for (const button of item.querySelectorAll("[data-whole]"))
    button.setAttribute("aria-pressed", rows.every((row) => decisions.get(row) === (button.dataset.whole === "true")));
}

// Pressed once more, the images follow the threshold again.
function markGroup({ value, dataset, ariaPressed }) {
  mark({ group: Number(value) }, ariaPressed === "true" ? null : dataset.whole === "true");
}

function showAllGroups() {
  const next = groups.find((item) => item.hidden);
  for (const item of groups) item.hidden = false;
  $("more-groups").hidden = true;
  next.querySelector("button").focus();
}

/* ---- Export ---- */

function reason(row) {
  if (decisions.has(row)) return BY_HAND;
  if (keeps(row) === original[row]) return columns.reason[row];
  return `threshold moved to ${cut(state.threshold)} in review`;
}

function manifest() {
  const names = Object.keys(columns);
  // A bare carriage return, too, would end the line.
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const edited = { keep: (row) => String(keeps(row)), reason };
  const cell = (name, row) => quoted(edited[name] ? edited[name](row) : columns[name][row]);
  const lines = Array.from({ length: count }, (_, row) => names.map((name) => cell(name, row)).join(","));
  return [names.join(","), ...lines, ""].join("\n");
}

// Python stands in for a byte that is no UTF-8 with a lone surrogate; the file gets the byte back.
function bytes(text) {
  const raw = (part) => Uint8Array.from(part, (c) => c.charCodeAt(0) - 0xdc00);
  return text.split(/([\udc80-\udcff]+)/u).map((part, i) => (i % 2 ? raw(part) : part));
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(bytes(manifest()), { type: "text/csv" }));
  link.download = "reviewed.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say("Exported reviewed.csv");
}

/* ---- Files left out ---- */

function listFiles(details) {
  const status = details.dataset.status;
  const [list, more] = [details.querySelector("ul"), details.querySelector("button")];
  const found = columns.status.flatMap((value, row) => (value === status ? [row] : []));
  const addPage = () => {
    for (const row of found.splice(0, PAGE)) {
      const item = document.createElement("li");
      const [name, why] = [document.createElement("bdi"), document.createElement("span")];
      name.textContent = shown(columns.path[row]);
      why.textContent = shown(columns.reason[row]);
      item.append(name, why);
      list.append(item);
    }
    more.hidden = !found.length;
  };
  details.hidden = !found.length;
  details.open = found.length > 0 && found.length <= 10;
  details.querySelector(".size").textContent = number(found.length);
  more.addEventListener("click", addPage);
  addPage();
}

/* ---- Keys ---- */

const ANYWHERE = {
  n: () => (document.activeElement?.closest(".card") ? goBy(1) : startReview()),
  u: () => goTo(undo()),
  "?": () => $("help").showModal(),
};
const ON_A_CARD = {
  p: () => goBy(-1),
  ArrowRight: () => goBy(1),
  ArrowLeft: () => goBy(-1),
  ArrowDown: () => goBy(columnsOfCards()),
  ArrowUp: () => goBy(-columnsOfCards()),
  k: () => decideAndGoOn(current, true),
  d: () => decideAndGoOn(current, false),
  h: () => toggleHeat(current),
  m: () => showAlike(current),
};
const AMONG_ALIKE = { k: () => markAlike(true), d: () => markAlike(false) };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.matches("select, input:not([type=checkbox], [type=range])")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = $("alike").open ? AMONG_ALIKE[key]
    : ANYWHERE[key] ?? (event.target.closest(".card") ? ON_A_CARD[key] : undefined);
  if (!action) return;
  event.preventDefault();
  action();
}

function onClick(event) {
  const card = cardOf.get(event.target.closest(".card"));
  const button = event.target.closest("button");
  if (card && button?.dataset.keep) decide(card, button.dataset.keep === "true");
  else if (card && button?.matches(".like")) showAlike(card);
  else if (card && button) toggleHeat(card);
  else if (button?.matches(".more")) showMore(button.closest(".group"));
  else if (button?.matches(".export")) download();
  else if (button?.matches(".help-button")) $("help").showModal();
  else if (button?.matches(".tile")) toggleTile(button);
  else if (button?.dataset.all) markAlike(button.dataset.all === "true");
  else if (button?.matches(".close")) $("alike").close();
  else if (button?.dataset.whole) markGroup(button);
}

function start() {
  restore();
  $("unscored").hidden = scored.length > 0;
  $("scored").hidden = !scored.length;
  $("no-cards").hidden = cards.length > 0;
  for (const id of ["cards-note", "toolbar", "start", "undo"]) $(id).hidden = !cards.length;
  document.querySelector(".progress").hidden = !cards.length;
  $("progress").max = Math.max(1, cards.length);
  $("scale").textContent = logarithmic ? "Images in each bar, log scale" : "Images in each bar";
  document.querySelectorAll("#files details").forEach(listFiles);
  $("no-files").hidden = columns.status.some((status) => status !== "ok");

  $("threshold").addEventListener("input", (event) => moveThreshold(event.target.valueAsNumber));
  $("threshold").addEventListener("change", arrange);
  $("reset").addEventListener("click", () => { moveThreshold(data.threshold); arrange(); });
  $("groups").hidden = !groups.length;
  $("groups").querySelector("ul").append(...groups);
  $("more-groups").textContent = `Show all ${number(groups.length)} groups`;
  $("more-groups").hidden = groups.length <= FIRST_GROUPS;
  $("more-groups").addEventListener("click", showAllGroups);
  $("filter").addEventListener("change", arrange);
  $("order").addEventListener("change", arrange);
  $("heat").addEventListener("change", (event) => document.body.classList.toggle("all-heat", event.target.checked));
  $("start").addEventListener("click", startReview);
  $("undo").addEventListener("click", () => undo()?.element.scrollIntoView({ block: "nearest" }));
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", (event) => {
    const card = cardOf.get(event.target.closest(".card"));
    if (card) setCurrent(card);
  });
  if (scored.length) new ResizeObserver(drawHistogram).observe($("histogram"));
  arrange();
  refresh();
}

start();
