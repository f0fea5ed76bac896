/* A list of any length, of which only what is near the window is in the page. */

const GAP = 16;
const MARGIN = 600; // pixels above and below the window

class Grid {
  // `kinds`: by name, { template, least: width, height: (width) => height, paint: (element, item) }
  constructor(list, kinds) {
    this.list = list;
    this.kinds = kinds;
    this.items = [];
    this.shown = new Map(); // index -> li
    this.spare = [];
    this.current = -1;
    this.asked = false;
    addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.layOut()).observe(list);
  }

  show(items, kind, current) {
    this.shown.forEach((item) => item.remove());
    this.shown.clear();
    if (kind !== this.kind) this.spare = [];
    this.items = items;
    this.kind = kind;
    this.current = items.length ? Math.max(0, Math.min(items.length - 1, current)) : -1;
    this.layOut();
  }

  layOut() {
    const { least, height } = this.kinds[this.kind] ?? {};
    const width = this.list.clientWidth;
    if (!least || !width) return;
    this.columns = Math.max(1, Math.floor((width + GAP) / (Math.min(least, width) + GAP)));
    this.width = (width - GAP * (this.columns - 1)) / this.columns;
    this.height = height(this.width);
    this.list.style.height = `${Math.max(0, Math.ceil(this.items.length / this.columns) * (this.height + GAP) - GAP)}px`;
    this.shown.forEach((item, index) => this.put(item, index));
    this.draw();
  }

  soon() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); });
  }

  // The first and one past the last index whose row of cards is within reach.
  range() {
    const top = -this.list.getBoundingClientRect().top;
    const step = this.height + GAP;
    const first = Math.max(0, Math.floor((top - MARGIN) / step)) * this.columns;
    const last = Math.max(0, Math.ceil((top + innerHeight + MARGIN) / step)) * this.columns;
    return [Math.min(first, this.items.length), Math.min(last, this.items.length)];
  }

  draw() {
    if (!this.kind) return;
    const [first, last] = this.range();
    const wanted = (index) => (index >= first && index < last) || index === this.current;
    for (const [index, item] of this.shown) {
      if (wanted(index)) continue;
      item.hidden = true;
      this.spare.push(item);
      this.shown.delete(index);
    }
    for (let index = first; index < last; index++) this.reveal(index);
    this.reveal(this.current);
  }

  reveal(index) {
    if (index < 0 || this.shown.has(index)) return;
    const item = this.spare.pop() ?? $(this.kinds[this.kind].template).content.cloneNode(true).firstElementChild;
    this.shown.set(index, item);
    item.hidden = false;
    item.dataset.index = index;
    item.setAttribute("aria-setsize", this.items.length);
    item.setAttribute("aria-posinset", index + 1);
    this.kinds[this.kind].fill(item.firstElementChild, this.items[index]);
    this.paint(index);
    this.put(item, index);
    this.stop(item, index === this.current ? 0 : -1);
    if (!item.isConnected || item.parentElement !== this.list) this.list.append(item);
  }

  put(item, index) {
    const [x, y] = [index % this.columns * (this.width + GAP), Math.floor(index / this.columns) * (this.height + GAP)];
    item.style.width = `${this.width}px`;
    item.style.height = `${this.height}px`;
    item.style.transform = `translate(${x}px, ${y}px)`;
  }

  paint(index) {
    this.kinds[this.kind].paint(this.shown.get(index).firstElementChild, this.items[index]);
  }

  paintAll() {
    this.shown.forEach((_, index) => this.paint(index));
  }

  // One card at a time is a stop of the Tab key; the arrow keys go to the others.
  stop(item, tabIndex) {
    if (item) for (const one of [item.firstElementChild, ...item.querySelectorAll("button")]) one.tabIndex = tabIndex;
  }

  setCurrent(index) {
    this.stop(this.shown.get(this.current), -1);
    this.current = index;
    this.reveal(index);
    this.stop(this.shown.get(index), 0);
  }

  goTo(index) {
    if (!this.items.length) return;
    index = Math.max(0, Math.min(this.items.length - 1, index));
    this.setCurrent(index);
    this.scrollTo(index);
    this.shown.get(index).firstElementChild.focus({ preventScroll: true });
  }

  scrollTo(index) {
    const from = this.list.getBoundingClientRect().top;
    const top = from + Math.floor(index / this.columns) * (this.height + GAP);
    const room = innerHeight - 88; // of the bar
    if (top < 16) scrollBy({ top: top - 16, behavior: "instant" });
    else if (top + this.height > room) scrollBy({ top: Math.min(top - 16, top + this.height - room), behavior: "instant" });
    this.draw();
  }

  indexOf(element) {
    const item = element?.closest?.("li[data-index]");
    return item && item.parentElement === this.list ? Number(item.dataset.index) : -1;
  }
}
