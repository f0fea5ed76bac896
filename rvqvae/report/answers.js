/* What answers teach, and what to ask next: the same rule as rvqvae/membership/answers.py, on the same rounded
   vectors. Names, signs and order are those of that file: +1 does not belong, -1 belongs, 0 mixed or not known.
   A sample is counted by its place in the view. */

const RULE = data.view?.rule ?? null;
const parts = data.view?.parts ?? [];

// Centred. Plain loops here and below: what takes a function for each value is ten times slower.
const vectors = view && RULE && (() => {
  const { codes, scale } = view;
  const width = scale.length;
  const values = new Float64Array(codes.length);
  const mean = new Float64Array(width);
  for (let at = 0, k = 0; at < values.length; at++, k = k + 1 === width ? 0 : k + 1) {
    values[at] = codes[at] * scale[k];
    mean[k] += values[at];
  }
  for (let k = 0; k < width; k++) mean[k] /= view.rows.length;
  for (let at = 0, k = 0; at < values.length; at++, k = k + 1 === width ? 0 : k + 1) values[at] -= mean[k];
  return values;
})();

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const clip = (x, most) => Math.max(-most, Math.min(most, x));
const bounded = view && RULE && view.logOdds.map((x) => clip(x, RULE.largest));

// With all samples.
function products(j) {
  const width = view.scale.length;
  const own = vectors.slice(j * width, (j + 1) * width);
  const found = new Float64Array(view.rows.length);
  for (let i = 0, at = 0; i < found.length; i++) {
    let sum = 0;
    for (let k = 0; k < width; k++, at++) sum += vectors[at] * own[k];
    found[i] = sum;
  }
  return found;
}

const squares = view && RULE && (() => {
  const width = view.scale.length;
  const found = new Float64Array(view.rows.length);
  for (let i = 0, at = 0; i < found.length; i++) for (let k = 0; k < width; k++, at++) found[i] += vectors[at] ** 2;
  return found;
})();

function squaredTo(j) {
  const found = products(j);
  for (let i = 0; i < found.length; i++) found[i] = Math.max(0, squares[i] + squares[j] - 2 * found[i]);
  return found;
}

// The kernel of one sample with all: found once, as answers come one after the other.
const kernels = new Map();

function kernelOf(j) {
  if (kernels.has(j)) return kernels.get(j);
  const area = RULE.length ** 2;
  const [short, long, line] = RULE.weights;
  const kernel = products(j);
  for (let i = 0; i < kernel.length; i++) {
    const wide = Math.exp(-Math.max(0, squares[i] + squares[j] - 2 * kernel[i]) / (2 * area));
    kernel[i] = short * wide ** 4 + long * wide + (line / area) * kernel[i];
  }
  kernels.set(j, kernel);
  return kernel;
}

/* ---- Symmetric positive definite matrices, as arrays of rows ---- */

// The lower triangle L of a = L L'.
function factor(a) {
  const lower = a.map((row) => Float64Array.from(row));
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = lower[i][j];
      for (let k = 0; k < j; k++) sum -= lower[i][k] * lower[j][k];
      lower[i][j] = i === j ? Math.sqrt(sum) : sum / lower[j][j];
    }
  }
  return lower;
}

function solve(lower, b) {
  const x = Float64Array.from(b);
  for (let i = 0; i < x.length; i++) {
    for (let k = 0; k < i; k++) x[i] -= lower[i][k] * x[k];
    x[i] /= lower[i][i];
  }
  for (let i = x.length - 1; i >= 0; i--) {
    for (let k = i + 1; k < x.length; k++) x[i] -= lower[k][i] * x[k];
    x[i] /= lower[i][i];
  }
  return x;
}

/* ---- Learning ---- */

// `said`: { parts, samples }, Maps of a part's place or a sample to its answer. Log odds of all, and of each answered
// part those that all other answers and the rules give it.
function relearn(said) {
  const known = (answers) => [...answers].filter(([, value]) => value).sort((a, b) => a[0] - b[0]);
  const [asked, samples] = [known(said.parts), known(said.samples)];
  if (!asked.length && !samples.length) return { logOdds: view.logOdds.slice(), others: new Map() };
  const shown = [...asked.map(([part]) => parts[part].representatives), ...samples.map(([i]) => [i])];
  const rows = shown.flat();
  const values = [...asked, ...samples].flatMap(([, value], k) => shown[k].map(() => value));
  const noise = shown.flatMap((some) => some.map(() => RULE.noise * some.length));
  const basis = rows.map(kernelOf);
  const lower = factor(basis.map((kernel, j) => rows.map((i, k) => kernel[i] + (j === k ? noise[j] : 0))));
  const weights = solve(lower, rows.map((i, k) => RULE.target * values[k] - bounded[i]));
  const logOdds = bounded.slice();
  basis.forEach((kernel, j) => {
    for (let i = 0; i < logOdds.length; i++) logOdds[i] += weights[j] * kernel[i];
  });
  const told = asked.reduce((sum, [part]) => sum + parts[part].rows.length, samples.length);
  if (2 * told < logOdds.length) {
    const excess = Math.max(0, Float64Array.from(logOdds).sort()[(logOdds.length - 1) >> 1]);
    for (let i = 0; i < logOdds.length; i++) logOdds[i] -= excess;
  }
  const others = new Map();
  let begin = 0;
  asked.forEach(([part, value], k) => {
    others.set(part, othersOf(lower, weights, begin, shown[k].length, value));
    begin += shown[k].length;
    for (const i of innerOf(part))
      logOdds[i] = value * Math.max(value * logOdds[i], value * view.logOdds[i], RULE.least);
  });
  for (const [i, value] of samples) logOdds[i] = 2 * RULE.target * value;
  return { logOdds, others };
}

// Leaving out a block of observations needs only its block of the inverse.
function othersOf(lower, weights, begin, size, value) {
  const unit = (j) => Float64Array.from(weights, (_, k) => (k === j ? 1 : 0));
  const places = Array.from({ length: size }, (_, k) => begin + k);
  const block = places.map((j) => { const column = solve(lower, unit(j)); return places.map((i) => column[i]); });
  const off = solve(factor(block), places.map((j) => weights[j]));
  return off.reduce((sum, one) => sum + RULE.target * value - one, 0) / size;
}

// Nearest to the centre first; a question is about these.
const innerOf = (place) => parts[place].rows.slice(0, parts[place].inner);

/* ---- What to ask ---- */

const sumOver = (rows, values) => rows.reduce((sum, i) => sum + values[i], 0);

function openParts(said) {
  const mixed = [...said.parts].flatMap(([place, value]) => (value ? [] : parts[place].halves));
  const first = parts.flatMap(({ first: asked }, place) => (asked ? [place] : []));
  return [...first, ...mixed].filter((place) => !said.parts.has(place));
}

function wrong(value, others) {
  const agree = sigmoid(value * clip(others, RULE.largest));
  return (RULE.error * (1 - agree)) / (RULE.error * (1 - agree) + (1 - RULE.error) * agree);
}

// The most worth asking, as { part, sample, gain, why }; of part and sample the one that is not meant is -1.
function questions(learned, said, most) {
  const p = learned.logOdds.map(sigmoid);
  const doubt = p.map((one) => Math.min(one, 1 - one));
  const [likely, unsure, gain] = [new Map(), new Map(), new Map()];
  for (const place of openParts(said)) {
    const { rows } = parts[place];
    const chance = sumOver(rows, p) / rows.length;
    gain.set(place, sumOver(rows, doubt));
    if (gain.get(place) < RULE.worth) continue;
    likely.set(place, chance * rows.length ** 0.25);
    unsure.set(place, chance * (1 - chance) * rows.length);
  }
  for (const [place, others] of learned.others) {
    if (said.confirmed.has(place)) continue;
    const again = parts[place].rows.length * wrong(said.parts.get(place), others);
    if (again < RULE.worth) continue;
    unsure.set(place, again);
    gain.set(place, again);
  }
  const found = [];
  for (let turn = said.parts.size + said.confirmed.size; unsure.size && found.length < most; turn++) {
    const [why, scores] = turn % 2 === 0 && likely.size ? ["likely", likely] : ["doubt", unsure];
    const [part] = [...scores].reduce((a, b) => (b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a));
    found.push({ part, sample: -1, gain: gain.get(part), why: learned.others.has(part) ? "check" : why });
    likely.delete(part);
    unsure.delete(part);
  }
  return [...found, ...samplesToAsk(learned, doubt, said, most - found.length)];
}

// Nearest to even odds, and far from one another.
function samplesToAsk(learned, doubt, said, most) {
  const found = [];
  const score = learned.logOdds.map(Math.abs);
  for (const i of said.samples.keys()) score[i] = Infinity;
  const nearest = new Float64Array(score.length).fill(Infinity);
  const left = Math.min(most, score.length - said.samples.size);
  while (found.length < left) {
    const far = score.map((one, i) => one + RULE.variety * Math.exp((-3 * Math.sqrt(nearest[i])) / RULE.length));
    const sample = far.reduce((best, one, i) => (one < far[best] ? i : best), 0);
    score[sample] = Infinity;
    const apart = squaredTo(sample);
    let gain = 0;
    for (let i = 0; i < apart.length; i++) {
      gain += doubt[i] * Math.exp((-4 * apart[i]) / RULE.length ** 2);
      nearest[i] = Math.min(nearest[i], apart[i]);
    }
    found.push({ part: -1, sample, gain, why: "sample" });
  }
  return found;
}
