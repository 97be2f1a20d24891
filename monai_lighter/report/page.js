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
  const small = document.createElement("canvas");
  function draw() {
    const axis = Number(plane.value), [across, up] = axes[axis], index = Number(slider.value);
    const columns = about.shape[across], rows = about.shape[up];
    const at = (x, y) => index * steps[axis] // x to the right and y downwards on the screen
      + (about.oriented ? columns - 1 - x : x) * steps[across] + (about.oriented ? rows - 1 - y : y) * steps[up];
    small.width = columns; small.height = rows;
    const pixels = small.getContext("2d").createImageData(columns, rows);
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
      const grey = image[at(x, y)];
      pixels.data.set([grey, grey, grey, 255], 4 * (y * columns + x));
    }
    small.getContext("2d").putImageData(pixels, 0, 0);
    const size = [columns * about.spacing[across], rows * about.spacing[up]], scale = 720 / Math.max(...size);
    canvas.width = Math.round(size[0] * scale); canvas.height = Math.round(size[1] * scale);
    canvas.style.width = `min(${canvas.width}px, ${(64 * size[0] / size[1]).toFixed(1)}vh)`;
    const context = canvas.getContext("2d");
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    for (const [map, box, color] of [[label, showLabel, "#00b7eb"], [pred, showPred, "#ff9f1c"]]) {
      if (box.checked) outline(context, (x, y) => map[at(x, y)], columns, rows, color);
    }
    place.value = `${index + 1} of ${about.shape[axis]}`;
  }
  function outline(context, value, columns, rows, color) {
    const w = canvas.width / columns, h = canvas.height / rows;
    context.beginPath();
    for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
      const own = value(x, y);
      if (x + 1 < columns && value(x + 1, y) !== own) { context.moveTo((x + 1) * w, y * h); context.lineTo((x + 1) * w, (y + 1) * h); }
      if (y + 1 < rows && value(x, y + 1) !== own) { context.moveTo(x * w, (y + 1) * h); context.lineTo((x + 1) * w, (y + 1) * h); }
    }
    context.strokeStyle = color; context.lineWidth = 1.6; context.stroke();
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
