/* The map: a point for each image, a lasso to take many. */

const plane = $("plane");
const INSET = 12;
let path = [];
let positions = new Float32Array(0); // x and y of each point in the canvas, in CSS pixels

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function layOutMap() {
  const { clientWidth: width, clientHeight: height } = plane;
  if (!view || !width) return;
  plane.width = width * devicePixelRatio;
  plane.height = height * devicePixelRatio;
  positions = Float32Array.from(view.points, (value, i) =>
    INSET + (value / 65535) * ((i % 2 ? height : width) - 2 * INSET));
  drawMap();
}

// From grey to the accent in steps, the outlying ones last and so on top.
function drawMap() {
  if (!view || !plane.width) return;
  const context = plane.getContext("2d");
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  context.clearRect(0, 0, plane.width, plane.height);
  const radius = view.rows.length > 5000 ? 1.5 : view.rows.length > 800 ? 2.2 : 3.2;
  const levels = Array.from({ length: 11 }, () => []);
  view.rows.forEach((row, i) => levels[Math.round((probability[row] || 0) * 10)].push(i));
  levels.forEach((points, level) => {
    context.fillStyle = `color-mix(in oklab, ${style("--accent")} ${level * 10}%, ${style("--bar")})`;
    context.globalAlpha = 0.7 + level * 0.03;
    if (view.rows.length > 5000) {
      // Many circles would take longer than an answer.
      for (const i of points) context.fillRect(positions[2 * i] - radius, positions[2 * i + 1] - radius, 2 * radius, 2 * radius);
      return;
    }
    context.beginPath();
    for (const i of points) {
      context.moveTo(positions[2 * i] + radius, positions[2 * i + 1]);
      context.arc(positions[2 * i], positions[2 * i + 1], radius, 0, 7);
    }
    context.fill();
  });
  context.globalAlpha = 1;
  if (path.length < 2) return;
  context.strokeStyle = style("--ink");
  context.lineWidth = 1.5;
  context.setLineDash([5, 4]);
  context.beginPath();
  path.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
  context.stroke();
  context.setLineDash([]);
}

const at = (event) => {
  const box = plane.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

// Whether a point is inside: a ray to the right crosses the outline an odd number of times.
function inside(x, y, outline) {
  let odd = false;
  for (let i = 0, j = outline.length - 1; i < outline.length; j = i++) {
    const [[xi, yi], [xj, yj]] = [outline[i], outline[j]];
    if (yi > y !== yj > y && x < xi + ((y - yi) / (yj - yi)) * (xj - xi)) odd = !odd;
  }
  return odd;
}

const within = (outline) => view.rows.filter((_, i) => inside(positions[2 * i], positions[2 * i + 1], outline));

function nearestTo([x, y]) {
  let [best, least] = [-1, 64];
  view.rows.forEach((row, i) => {
    const gap = (positions[2 * i] - x) ** 2 + (positions[2 * i + 1] - y) ** 2;
    if (gap < least) [best, least] = [i, gap];
  });
  return best;
}

function peek(event) {
  const i = path.length ? -1 : nearestTo(at(event));
  $("peek").hidden = i < 0;
  plane.classList.toggle("point", i >= 0);
  if (i < 0) return;
  draw($("peek"), view.rows[i]);
  const left = positions[2 * i] < plane.clientWidth / 2;
  $("peek").style.left = left ? `${positions[2 * i] + 14}px` : "";
  $("peek").style.right = left ? "" : `${plane.clientWidth - positions[2 * i] + 14}px`;
  $("peek").style.top = `${Math.max(0, Math.min(plane.clientHeight - 112, positions[2 * i + 1] - 56))}px`;
}

function startLasso(event) {
  if (event.pointerType === "touch" && $("lasso").getAttribute("aria-pressed") !== "true") return;
  plane.setPointerCapture(event.pointerId);
  path = [at(event)];
}

function drawLasso(event) {
  if (!path.length) return peek(event);
  path.push(at(event));
  $("peek").hidden = true;
  return drawMap();
}

// A press without a stroke opens the image.
function endLasso(event) {
  const outline = path;
  path = [];
  drawMap();
  if (!outline.length && event.pointerType !== "touch") return;
  if (outline.length < 4) {
    const i = nearestTo(at(event));
    if (i >= 0) look(view.rows[i]);
    return;
  }
  selected = within(outline).sort((a, b) => rankOf[a] - rankOf[b]);
  if (!selected.length) return say("No image is inside.");
  openTab("some");
  showSelected();
}

const TILES = 60;

function showSelected() {
  $("alike-title").textContent = `${number(selected.length)} images selected`;
  $("alike").querySelector(".tiles").replaceChildren(...selected.slice(0, TILES).map(makeTile));
  countChosen();
  $("alike").showModal();
}

function listenToMap() {
  $("map").hidden = !view?.rows.length;
  if (!view) return;
  plane.addEventListener("pointerdown", startLasso);
  plane.addEventListener("pointermove", drawLasso);
  plane.addEventListener("pointerup", endLasso);
  plane.addEventListener("pointercancel", () => { path = []; drawMap(); });
  plane.addEventListener("pointerleave", () => { $("peek").hidden = true; });
  $("lasso").addEventListener("click", () => {
    const on = $("lasso").getAttribute("aria-pressed") !== "true";
    $("lasso").setAttribute("aria-pressed", on);
    plane.classList.toggle("drawing", on);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  new ResizeObserver(layOutMap).observe(plane);
}
