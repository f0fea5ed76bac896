/* The threshold, by probability or by rank, on a histogram. */

const BINS = 50;
let place = () => {};

function svg(name, attributes, text) {
  const element = document.createElementNS($("histogram").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function heights() {
  const bins = new Array(BINS).fill(0);
  for (const row of scored) bins[Math.max(0, Math.min(BINS - 1, Math.floor(probability[row] * BINS)))]++;
  const most = Math.max(...bins);
  const filled = bins.filter((n) => n).sort((a, b) => a - b);
  // One high bar would make all others invisible.
  const logarithmic = filled.length > 1 && most > 20 * filled[filled.length >> 1];
  const height = (n) => (logarithmic ? Math.log1p(n) / Math.log1p(most) : n / most);
  return { bins, most, logarithmic, height };
}

function ticks({ most, logarithmic }) {
  if (logarithmic) return [1, 10, 100, 1e3, 1e4, 1e5, 1e6].filter((n) => n <= most);
  const power = 10 ** Math.floor(Math.log10(most));
  const step = Math.max(1, [0.2, 0.5, 1, 2, 5].map((f) => f * power).find((s) => most / s <= 4));
  return Array.from({ length: Math.floor(most / step) }, (_, i) => (i + 1) * step);
}

// Where the cut lies on the axis of probabilities: of a cut by rank, at the last image that is dropped.
function cutAt() {
  if (state.by === "probability") return state.threshold;
  return state.first ? probability[ranked[Math.min(state.first, ranked.length) - 1]] : 1;
}

function drawHistogram() {
  if (!scored.length) return;
  const found = heights();
  const plot = $("histogram");
  const slider = document.querySelector(".slider");
  const [left, width] = [slider.offsetLeft - plot.parentElement.offsetLeft, slider.clientWidth];
  const [top, bottom] = [34, plot.clientHeight];
  const x = (value) => left + value * width;
  const y = (n) => bottom - found.height(n) * (bottom - top);
  const bars = found.bins.flatMap((n, i) =>
    n ? [`M${x(i / BINS) + 0.5} ${bottom}V${Math.min(y(n), bottom - 2)}H${x((i + 1) / BINS) - 0.5}V${bottom}Z`] : []);
  const clip = svg("clipPath", { id: "above" });
  const above = svg("rect", { y: 0, height: bottom });
  clip.append(above);
  const line = svg("line", { class: "cut", y1: 4, y2: bottom });
  const keep = svg("text", { class: "side", y: 14, "text-anchor": "end" }, "✓ keep");
  const drop = svg("text", { class: "side drop", y: 14 }, "drop ✕");
  $("scale").textContent = found.logarithmic ? "Images in each bar, log scale" : "Images in each bar";
  plot.replaceChildren(
    clip,
    ...ticks(found).flatMap((n) => [
      svg("line", { x1: left, x2: left + width, y1: y(n), y2: y(n) }),
      svg("text", { x: left - 8, y: y(n) + 4, "text-anchor": "end" }, number(n)),
    ]),
    svg("path", { class: "kept", d: bars.join("") }),
    svg("path", { class: "dropped", d: bars.join(""), "clip-path": "url(#above)" }),
    line, keep, drop,
  );
  place = () => {
    const at = x(cutAt());
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

function paintThreshold({ kept, dropped }) {
  const words = state.by === "rank" ? `The first ${number(state.first)} by rank` : `Threshold ${cut(state.threshold)}`;
  $("outcome").textContent = `${words}: ${number(kept)} kept, ${number(dropped)} dropped`;
  $("threshold").value = cutAt();
  $("threshold").setAttribute("aria-valuetext", `${cut(cutAt())}: ${number(dropped)} dropped`);
  if (document.activeElement !== $("first"))
    $("first").value = state.by === "rank" ? state.first : scored.filter((row) => !keepsByThreshold(row)).length;
  $("histogram").setAttribute("aria-label",
    `Histogram of the outlier probability: ${number(kept)} images kept, ${number(dropped)} dropped`);
  $("reset").disabled = state.by === "probability" && state.threshold === data.threshold;
  place();
}

function moveThreshold(value) {
  Object.assign(state, { by: "probability", threshold: value });
  changed();
}

function dropFirst(value) {
  if (!(value >= 0)) return;
  Object.assign(state, { by: "rank", first: Math.min(Math.floor(value), scored.length) });
  changed();
}

function listenToThreshold() {
  $("unscored").hidden = scored.length > 0;
  $("scored").hidden = !scored.length;
  $("first").max = scored.length;
  $("threshold").addEventListener("input", (event) => moveThreshold(event.target.valueAsNumber));
  $("first").addEventListener("input", (event) => dropFirst(event.target.valueAsNumber));
  for (const id of ["threshold", "first"]) $(id).addEventListener("change", arrange);
  $("reset").addEventListener("click", () => { moveThreshold(data.threshold); arrange(); });
  if (scored.length) new ResizeObserver(drawHistogram).observe($("histogram"));
}
