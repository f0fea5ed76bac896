/* The reviewed manifest. */

const BY_HAND = {
  image: "reviewed by hand", twins: "duplicate, reviewed by hand", issue: "issue, reviewed by hand",
};

function reason(row) {
  const { about } = decisions.get(row) ?? {};
  if (about) return BY_HAND[about];
  if (keeps(row) === original[row]) return columns.reason[row];
  if (probability !== modelled) return "learned from answers in review";
  return state.by === "rank" ? `the first ${state.first} by rank in review` : `threshold moved to ${cut(state.threshold)} in review`;
}

const WORDS_OF = { "-1": "yes", 1: "no", 0: "mixed" }; // whether it belongs

// After the columns of the manifest: what `rvqvae clean --answers` reads back. The group is the place of a part of
// the set, of those that were answered the smallest that a row is in.
function answerColumns() {
  const taken = given.flatMap(([about, rows]) => (about === "image" ? rows : [])); // answered before, now open
  const own = new Map([...taken.map((row) => [row, "mixed"]), ...[...skipped].map(([i]) => [view.rows[i], "mixed"])]);
  for (const [row, { about, keep }] of decisions) if (about === "image") own.set(row, keep ? "yes" : "no");
  const group = new Map();
  parts.forEach(({ rows, first }, place) => { if (first) for (const i of rows) group.set(view.rows[i], place); });
  // A part comes before its halves.
  for (const place of [...answers.keys()].sort((a, b) => a - b))
    for (const i of parts[place].rows) group.set(view.rows[i], place);
  return {
    answer: (row) => own.get(row) ?? "",
    group: (row) => String(group.get(row) ?? ""),
    group_answer: (row) => WORDS_OF[answers.get(group.get(row))] ?? "",
    reviewed_probability: (row) => (probability === modelled || Number.isNaN(probability[row]) ? "" : String(probability[row])),
    run: () => data.view?.run ?? "",
    group_confirmed: (row) => (confirmed.has(group.get(row)) ? "yes" : ""), // said once more, against other answers
  };
}

function manifest() {
  // A bare carriage return, too, would end the line.
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const given = Object.fromEntries(Object.keys(columns).map((name) => [name, (row) => columns[name][row]]));
  const cells = { ...given, keep: (row) => String(keeps(row)), reason, ...answerColumns() };
  const lines = Array.from({ length: count }, (_, row) => Object.values(cells).map((cell) => quoted(cell(row))).join(","));
  return [Object.keys(cells).join(","), ...lines, ""].join("\n");
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
