// The page's own script, in place of a table library: sorting, filtering and comparing take about
// 200 lines, DataTables and what it needs 300 kB. All but the comparer stands there without it too.
// jinja2 reads this file as well: no doubled braces, and none before a percent or hash sign.
"use strict";

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// ---- tables: a click on a head sorts, the fields above filter ------------------------------------

const textOf = (cell) => cell.textContent.trim().replace(/\s+/g, " ");
const valueOf = (cell) => cell.dataset.value ?? textOf(cell);
const isNumber = (text) => text !== "" && Number.isFinite(Number(text));

function compareCells(a, b, sign) {
  const [left, right] = [valueOf(a), valueOf(b)];
  if (isNumber(left) && isNumber(right)) return sign * (left - right);
  if (isNumber(left) !== isNumber(right)) return isNumber(left) ? -1 : 1; // no number: at the end
  return sign * left.localeCompare(right);
}

function sortBy(table, head, column) {
  const first = head.textContent.includes("↑") ? "descending" : "ascending"; // the best on top
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  rows.sort((a, b) => compareCells(a.cells[column], b.cells[column], sign));
  body.append(...rows);
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", { type: "button", title: "sort" }, ...head.childNodes);
    button.addEventListener("click", () => sortBy(table, head, column));
    head.append(button);
  });
}

function choice(table, head, column) {
  const words = new Set([...table.tBodies[0].rows].map((row) => textOf(row.cells[column])));
  const label = textOf(head);
  const select = make("select", {}, make("option", { value: "", textContent: "all" }));
  select.dataset.column = column;
  for (const word of words) select.append(make("option", { value: word, textContent: word }));
  return make("label", {}, `${label} `, select);
}

function makeFilterable(table) {
  const name = table.getAttribute("aria-label");
  const search = make("input", { type: "search", placeholder: "filter rows" });
  search.setAttribute("aria-label", `filter the rows of ${name}`);
  const heads = [...table.tHead.rows[0].cells];
  const choices = heads.flatMap((head, column) =>
    head.dataset.choose === undefined ? [] : [choice(table, head, column)]);
  const count = make("output");
  const tools = make("div", { className: "tools" }, search, ...choices, count);
  const selects = [...tools.querySelectorAll("select")];
  const filter = () => {
    const rows = [...table.tBodies[0].rows];
    const word = search.value.toLowerCase();
    for (const row of rows) {
      const isChosen = selects.every((select) =>
        !select.value || textOf(row.cells[select.dataset.column]) === select.value);
      row.hidden = !isChosen || !textOf(row).toLowerCase().includes(word);
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  tools.addEventListener("input", filter);
  table.parentElement.before(tools);
  filter();
}

for (const table of document.querySelectorAll("table.sortable")) {
  makeFilterable(table);
  makeSortable(table);
}

// ---- figures: a click enlarges -------------------------------------------------------------------

const dialog = document.getElementById("enlarged");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.enlarge");
  if (!button) return;
  const image = button.querySelector("img");
  const large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  const caption = button.parentElement.querySelector("figcaption");
  dialog.querySelector("p").textContent = caption.textContent;
  dialog.showModal();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest("button")) dialog.close();
});

// ---- images: a slider between two, or all of them, at one zoom -----------------------------------

function startComparer(box) {
  const { sources, sets } = JSON.parse(box.querySelector("script").textContent);
  const part = (name) => box.querySelector(`[data-part="${name}"]`);
  const [set, image, left, right, slider] = ["set", "image", "left", "right", "slider"].map(part);
  const [stage, all, view, views] = ["stage", "all", "view", "views"].map(part);
  const state = { zoom: 1, x: 50, y: 50 }; // the point that stays in place, percent of the image
  const shown = () => sets[set.value].images[image.value].shown;

  const fill = (select, names, chosen) => {
    const options = names.map(([value, text]) => make("option", { value, textContent: text }));
    select.replaceChildren(...options);
    select.value = names.some(([value]) => value === chosen) ? chosen : names[0][0];
  };
  const numbered = (names) => names.map((name, index) => [String(index), name]);

  const picture = (name) =>
    make("img", { src: sources[shown()[name]], alt: name, draggable: false });

  function place() {
    for (const one of box.querySelectorAll(".view img")) {
      one.style.transform = `scale(${state.zoom})`;
      one.style.transformOrigin = `${state.x}% ${state.y}%`;
    }
    views.style.touchAction = state.zoom > 1 ? "none" : "pan-y";
    stage.style.setProperty("--cut", `${slider.value}%`);
    part("zoom").textContent = `${state.zoom.toFixed(1)}×`;
  }
  function draw() {
    const isAll = view.value === "all";
    stage.hidden = isAll;
    all.hidden = !isAll;
    for (const one of [left, right, slider]) one.closest("label").hidden = isAll;
    const label = (one) => make("span", { textContent: one.value });
    const over = [left, right].map((one) => make("div", { className: "view" }, picture(one.value)));
    over[1].classList.add("cut");
    const names = make("div", { className: "names" }, label(left), label(right));
    stage.replaceChildren(...(isAll ? [] : [...over, names]));
    const tile = (name) => make("figure", {}, make("div", { className: "view" }, picture(name)),
      make("figcaption", { textContent: name }));
    all.replaceChildren(...(isAll ? Object.keys(shown()).map(tile) : []));
    place();
  }
  function chooseImage() {
    const names = Object.keys(shown()).map((name) => [name, name]);
    fill(left, names, left.value || names[0][0]);
    fill(right, names, right.value && right.value !== left.value ? right.value : names.at(-1)[0]);
    draw();
  }
  function chooseSet() {
    fill(image, numbered(sets[set.value].images.map((one) => one.name)), image.value);
    chooseImage();
  }
  function zoom(factor) {
    state.zoom = Math.min(16, Math.max(1, state.zoom * factor));
    if (state.zoom === 1) Object.assign(state, { x: 50, y: 50 });
    place();
  }
  function pan(x, y) {
    state.x = Math.min(100, Math.max(0, state.x + x));
    state.y = Math.min(100, Math.max(0, state.y + y));
    place();
  }

  fill(set, numbered(sets.map((one) => one.title)), "0");
  set.addEventListener("change", chooseSet);
  image.addEventListener("change", chooseImage);
  for (const one of [left, right, view]) one.addEventListener("change", draw);
  slider.addEventListener("input", place);
  part("in").addEventListener("click", () => zoom(1.5));
  part("out").addEventListener("click", () => zoom(1 / 1.5));
  part("reset").addEventListener("click", () => zoom(0));

  // Fingers and mouse: one slides while nothing is enlarged, else moves; two pinch.
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  const slideTo = (event) => {
    const { left: start, width } = stage.getBoundingClientRect();
    slider.value = (100 * (event.clientX - start)) / width;
    place();
  };
  const isSliding = () => state.zoom === 1 && !stage.hidden;
  views.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    views.setPointerCapture(event.pointerId);
    if (pointers.size === 1 && isSliding()) slideTo(event);
  });
  views.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const old = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (pointers.size === 2) zoom(spread() / old);
    else if (isSliding()) slideTo(event);
    else {
      const { width, height } = box.querySelector(".view").getBoundingClientRect();
      const share = 100 / Math.max(0.5, state.zoom - 1);
      const [dx, dy] = [before.x - event.clientX, before.y - event.clientY];
      pan((share * dx) / width, (share * dy) / height);
    }
  });
  for (const end of ["pointerup", "pointercancel"])
    views.addEventListener(end, (event) => pointers.delete(event.pointerId));
  views.addEventListener("dblclick", () => zoom(state.zoom > 1 ? 0 : 3));
  views.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const zooms = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 };
    if (event.key in zooms) zoom(zooms[event.key]);
    else if (event.key in moves && !isSliding()) pan(...moves[event.key].map((step) => 5 * step));
    else if (event.key in moves && moves[event.key][0]) {
      slider.value = Number(slider.value) + 2 * moves[event.key][0];
      place();
    } else return;
    event.preventDefault();
  });
  chooseSet();
}

for (const box of document.querySelectorAll(".comparer")) startComparer(box);
