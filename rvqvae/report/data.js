/* What the page was given, and what a person has decided since. */

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en-US");
const cut = (value) => String(Math.round(value * 1e4) / 1e4);

const data = JSON.parse($("data").textContent);
// One array for each column of the manifest, in its order; every cell is the text that the manifest has.
const columns = data.columns;
const count = columns.path.length;
const original = columns.keep.map((text) => text === "true");
const score = columns.score.map((text) => (text === "" ? NaN : Number(text)));
const given = data.given; // answers that the manifest already follows
const isImage = columns.status.map((status) => status === "ok");
const modelled = Float64Array.from(columns.outlier_probability, (text, row) =>
  isImage[row] && text !== "" ? Number(text) : NaN);
const scored = Array.from(modelled.keys()).filter((row) => !Number.isNaN(modelled[row]));
const issuesOf = columns.issues.map((text) => (text === "" ? [] : text.split("; ")));
const twinOf = new Map(data.twins.map(([row, origin, kind]) => [row, { origin, kind }]));

function decoded(text, Type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Type(bytes.buffer);
}

// Of the readable images: vectors of one byte for each value, and their places on the map.
const view = data.view && {
  rows: data.view.rows,
  scale: Float32Array.from(data.view.scale),
  codes: decoded(data.view.codes, Int8Array),
  points: decoded(data.view.points, Uint16Array),
  // As all log odds here, less the cut: above 0 an image does not belong.
  logOdds: data.view.rule && decoded(data.view.log_odds, Float64Array),
};
const inView = new Map(view?.rows.map((row, i) => [row, i]));

// Control and direction characters are shown as what they are; bytes that are no UTF-8 as �.
function shown(path) {
  return path
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\ud800-\udfff]/gu, "\ufffd")
    .replace(/[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
}

const nameOf = (row) => shown(columns.path[row]);
const chance = (row) => (Number.isNaN(probability[row]) ? "" : probability[row].toFixed(3));
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/* ---- Probabilities and ranks ---- */

let probability = modelled;
let ranked = [];
const rankOf = new Int32Array(count).fill(-1);

function rank() {
  ranked = scored.slice().sort((a, b) =>
    compare(probability[b], probability[a]) || compare(score[a], score[b]) || a - b);
  ranked.forEach((row, place) => { rankOf[row] = place; });
}

/* ---- Decisions: a history, of which the last word on a row counts ---- */

// Each entry: what it is about, of what, and what becomes of it. Of an "image", or of "twins" or an "issue", which say
// nothing of whether an image belongs: rows, and true to keep, false to drop, null to leave them to the threshold. Of a
// question about a "part" of the set or a "sample", by their places: +1 if it does not belong, -1 if it belongs, 0 if
// that cannot be said.
const state = { by: "probability", threshold: data.threshold, first: 0, history: [...given] };
const undoable = () => state.history.length > given.length;
const decisions = new Map();
const answers = new Map();
const confirmed = new Set();
const skipped = new Map();

function replay() {
  for (const each of [decisions, answers, confirmed, skipped]) each.clear();
  for (const [about, what, value] of state.history) {
    if (about === "part") {
      if (answers.has(what)) confirmed.add(what);
      answers.set(what, value);
    } else if (about === "sample" && !value) skipped.set(what, value);
    else if (about === "sample") decisions.set(view.rows[what], { about: "image", keep: value < 0 });
    else for (const row of what) {
      decisions.delete(row);
      if (value !== null) decisions.set(row, { about, keep: value });
    }
  }
}

const isProbability = (value) => value >= 0 && value <= 1;
const isRow = (value) => Number.isInteger(value) && value >= 0 && value < count;

function isEntry([about, what, value]) {
  if (["part", "sample"].includes(about)) return Number.isInteger(what) && what >= 0 && [1, -1, 0].includes(value);
  return ["image", "twins", "issue"].includes(about) && what.every(isRow) && [true, false, null].includes(value);
}

function restore() {
  try {
    const saved = JSON.parse(localStorage.getItem(`rvqvae-review-${data.run}`));
    const { by, threshold, first, history } = saved;
    if (!["probability", "rank"].includes(by) || !isProbability(threshold) || !(first >= 0)) return;
    if (!history.every(isEntry)) return;
    Object.assign(state, { by, threshold, first, history });
  } catch {
    // Storage may be refused, empty or foreign: the review then starts afresh.
  }
}

function store() {
  try {
    localStorage.setItem(`rvqvae-review-${data.run}`, JSON.stringify(state));
  } catch {
    // Without storage the page works, but forgets the review when it is closed.
  }
}

const untouched = () =>
  state.by === "probability" && state.threshold === data.threshold && probability === modelled;

function keepsByThreshold(row) {
  // Untouched, the page says exactly what the manifest says.
  if (Number.isNaN(probability[row]) || untouched()) return original[row];
  return state.by === "rank" ? rankOf[row] >= state.first : probability[row] <= state.threshold;
}

const decided = (row) => decisions.has(row);
const keeps = (row) => decisions.get(row)?.keep ?? keepsByThreshold(row);

function tally() {
  const result = { kept: 0, dropped: 0 };
  for (let row = 0; row < count; row++) {
    if (keeps(row)) result.kept++;
    else if (isImage[row]) result.dropped++;
  }
  return result;
}
