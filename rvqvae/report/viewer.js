/* One image, large: the original where it can be had, else the thumbnail. */

const viewer = $("viewer");
let viewed = -1;

function look(row) {
  viewed = row;
  const part = (selector) => viewer.querySelector(selector);
  const [height, width] = sizeOf(row);
  const frame = part(".frame");
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.setProperty("--ratio", width / height);
  draw(part(".stand-in"), row);
  showOriginal(part(".original"), row);
  const heat = part(".heat");
  if (data.heat[row]) heat.src = data.heat[row];
  else heat.removeAttribute("src");
  heat.classList.toggle("on", part(".show-heat").getAttribute("aria-pressed") === "true");
  part(".show-heat").disabled = !data.heat[row];
  part(".like").disabled = !inView.has(row);
  part(".name bdi").textContent = nameOf(row);
  fillFlaws(viewer, row);
  const [nearest] = alike(row, 1, keeps);
  part(".nearest").hidden = nearest === undefined;
  if (nearest !== undefined) draw(part(".nearest canvas"), nearest);
  paintViewer();
  if (!viewer.open) viewer.showModal();
}

function showOriginal(image, row) {
  const source = urlOf(row);
  const note = $("viewer-note");
  image.hidden = true;
  image.alt = nameOf(row);
  note.textContent = source === null ? "The originals are in an archive: this is the thumbnail." : "";
  if (source === null) {
    image.removeAttribute("src");
    return;
  }
  image.onload = () => {
    image.hidden = false;
    image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 128);
    const frame = image.parentElement;
    frame.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
    frame.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    note.textContent = `${number(image.naturalWidth)} × ${number(image.naturalHeight)} pixels`;
  };
  image.onerror = () => {
    note.textContent = "This is the thumbnail: the original cannot be shown. "
      + `It was at ${shown(decodeURIComponent(data.originals))} as seen from this page; has the page or the folder moved?`;
  };
  image.src = source;
}

function paintViewer() {
  if (viewed >= 0) paintState(viewer, viewed);
}

function lookBy(steps) {
  const index = grid.items.indexOf(viewed);
  if (index < 0 || TABS[tab].kind !== "card") return;
  grid.setCurrent(Math.max(0, Math.min(grid.items.length - 1, index + steps)));
  grid.scrollTo(grid.current);
  look(currentRow());
}

function decideViewed(keep) {
  if (decisions.get(viewed)?.keep !== keep) toggle(viewed, keep);
  lookBy(1);
}

function toggleViewedHeat() {
  const button = viewer.querySelector(".show-heat");
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  viewer.querySelector(".heat").classList.toggle("on", button.getAttribute("aria-pressed") === "true");
}

function closeViewer() {
  viewer.close();
  if (grid.current >= 0 && KINDS[TABS[tab].kind].template !== "file") grid.goTo(grid.current);
}
