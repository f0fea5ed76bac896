/* The reviewed manifest. */

function reason(row) {
  const { about } = decisions.get(row) ?? {};
  if (about) return about === "image" ? "reviewed by hand" : "duplicate, reviewed by hand";
  if (keeps(row) === original[row]) return columns.reason[row];
  return state.by === "rank" ? `the first ${state.first} by rank in review` : `threshold moved to ${cut(state.threshold)} in review`;
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
