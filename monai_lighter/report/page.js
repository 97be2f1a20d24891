"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => {
      const text = row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      return text === "" || text === "None" ? null : isNaN(Number(text)) ? text : Number(text);
    };
    const compare = (a, b) => {
      if (a === null || b === null) return (a === null) - (b === null); // what has no value comes last, either way
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
      return up ? order : -order;
    };
    body.append(...[...body.rows].map(row => [value(row), row]).sort((a, b) => compare(a[0], b[0])).map(pair => pair[1]));
  }));
}

async function show(viewer) {
  const about = JSON.parse(document.getElementById("volume").textContent);
  const raw = Uint8Array.from(atob(about.data), letter => letter.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const [w, h, d] = about.shape, count = w * h * d;
  const image = bytes.subarray(0, count), label = bytes.subarray(count, 2 * count), pred = bytes.subarray(2 * count);
  const canvas = viewer.querySelector("canvas"), slider = viewer.querySelector("input[type=range]");
  const plane = viewer.querySelector("select"), place = viewer.querySelector("output");
  const [showLabel, showPred] = viewer.querySelectorAll("input[type=checkbox]");
  const axes = [[1, 2], [0, 2], [0, 1]], steps = [h * d, d, 1]; // arrays have the last axis running fastest
  function draw() {
    const axis = Number(plane.value), [across, up] = axes[axis], index = Number(slider.value);
    const columns = about.shape[across], rows = about.shape[up];
    canvas.width = columns; canvas.height = rows;
    canvas.style.aspectRatio = `${columns * about.spacing[across]} / ${rows * about.spacing[up]}`;
    const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
    const at = (c, r) => index * steps[axis] + c * steps[across] + r * steps[up];
    const isEdge = (map, c, r) => {
      const own = map[at(c, r)];
      return [[-1, 0], [1, 0], [0, -1], [0, 1]].some(([x, y]) =>
        c + x >= 0 && c + x < columns && r + y >= 0 && r + y < rows && map[at(c + x, r + y)] < own);
    };
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
      const grey = image[at(c, r)];
      let color = [grey, grey, grey];
      if (showLabel.checked && isEdge(label, c, r)) color = [0, 183, 235];
      if (showPred.checked && isEdge(pred, c, r)) color = [255, 159, 28];
      const x = about.oriented ? columns - 1 - c : c, y = about.oriented ? rows - 1 - r : r;
      picture.data.set([...color, 255], 4 * (y * columns + x));
    }
    context.putImageData(picture, 0, 0);
    place.value = `${index + 1} of ${about.shape[axis]}`;
  }
  function turn() {
    slider.max = about.shape[Number(plane.value)] - 1;
    slider.value = Math.floor(slider.max / 2);
    draw();
  }
  plane.addEventListener("change", turn);
  for (const each of [slider, showLabel, showPred]) each.addEventListener("input", draw);
  turn();
}
const viewer = document.getElementById("viewer");
if (viewer) show(viewer).catch(() => { viewer.hidden = true; document.getElementById("no-viewer").hidden = false; });
