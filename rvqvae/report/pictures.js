/* Thumbnails from the sheets, originals from their folder. */

const SMALL = 40; // pixels; below it an image is enlarged with crisp edges
const ACROSS = 16;
const { urls, tile, size } = data.sheets;
const loading = new Map();
const MOST_SHEETS = 48; // 4 MiB each, decoded

// The thumbnail of an exact duplicate is that of its origin.
const placeOf = (row) => {
  const own = data.places[row];
  return own < 0 && twinOf.has(row) ? data.places[twinOf.get(row).origin] : own;
};

function sheet(index) {
  if (!loading.has(index)) {
    const image = new Image();
    image.src = urls[index];
    loading.set(index, image.decode().then(() => image, () => warnOfSheets()));
    if (loading.size > MOST_SHEETS) loading.delete(loading.keys().next().value);
  }
  return loading.get(index);
}

function warnOfSheets() {
  const folder = urls.at(-1).split("/")[0];
  $("missing").textContent = `The thumbnails are not beside this page: put the folder ${folder} back where the page is.`;
  $("missing").hidden = false;
}

// Height and width of the file where they are known, else of the thumbnail.
const sizeOf = (row) => data.sizes[row] ?? data.sizes[twinOf.get(row)?.origin] ?? size;

function draw(canvas, row) {
  const place = placeOf(row);
  const [height, width] = sizeOf(row);
  canvas.dataset.place = place;
  canvas.classList.toggle("small", Math.max(...size) < SMALL);
  canvas.classList.toggle("tall", height > width);
  canvas.style.aspectRatio = `${width} / ${height}`;
  [canvas.height, canvas.width] = size;
  if (place < 0) return;
  const index = Math.floor(place / ACROSS ** 2);
  const at = place % ACROSS ** 2;
  const paint = (image) => {
    if (!image || canvas.dataset.place !== String(place)) return;
    const [y, x] = [Math.floor(at / ACROSS) * tile[0], (at % ACROSS) * tile[1]];
    canvas.getContext("2d").drawImage(image, x, y, size[1], size[0], 0, 0, size[1], size[0]);
  };
  sheet(index).then(paint);
}

// Bytes that are no UTF-8 stand in the path as lone surrogates.
function urlOf(row) {
  const escape = (c) => {
    const code = c.codePointAt(0);
    return code >= 0xdc80 && code <= 0xdcff ? `%${(code - 0xdc00).toString(16)}` : encodeURIComponent(c);
  };
  return data.originals === null ? null
    : data.originals + columns.path[row].split("/").map((part) => Array.from(part, escape).join("")).join("/");
}

/* ---- What is alike, by the vectors ---- */

function distances(row) {
  const { codes, scale } = view;
  const width = scale.length;
  const from = inView.get(row) * width;
  const squares = new Float32Array(view.rows.length);
  const weight = scale.map((s) => s * s);
  for (let i = 0, at = 0; i < squares.length; i++) {
    let sum = 0;
    for (let k = 0; k < width; k++, at++) {
      const gap = codes[at] - codes[from + k];
      sum += gap * gap * weight[k];
    }
    squares[i] = sum;
  }
  return squares;
}

// The rows most like one, itself left out.
function alike(row, most, fits = () => true) {
  if (!inView.has(row)) return [];
  const squares = distances(row);
  const nearest = [];
  for (let i = 0; i < squares.length; i++) {
    if (nearest.length === most && squares[i] >= squares[nearest.at(-1)]) continue;
    if (view.rows[i] === row || !fits(view.rows[i])) continue;
    let place = nearest.length;
    while (place && squares[nearest[place - 1]] > squares[i]) place--;
    nearest.splice(place, 0, i);
    nearest.length = Math.min(nearest.length, most);
  }
  return nearest.map((i) => view.rows[i]);
}
