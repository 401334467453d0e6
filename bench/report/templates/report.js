// Fills the charts and the table of the page from its data; see ../interactive.py.
const data = JSON.parse(document.getElementById("data").textContent);
const place = Object.fromEntries(data.columns.map((name, index) => [name, index]));
const rows = data.rows.map((values) => Object.fromEntries(data.columns.map((name, index) => [name, values[index]])));
const PREFIXES = ["n", "µ", "m", "", "k", "M", "G", "T"];
const SLICE = ["operation", "dtype", "logits", "threads"];
const AXES = { features: "batch", batch: "features", working_set_bytes: null }; // what is fixed while a size varies
const USUAL_FIXED = 32;

// The same texts as softmax_bench.units gives.
function significant(value) {
  if (value === 0) return "0";
  const rounded = Number(value.toPrecision(3));
  return rounded.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(rounded)) + 1e-12)));
}
function quantity(value, unit) {
  if (value === null) return "–";
  if (value === 0) return `0 ${unit}`;
  const rounded = Number(value.toPrecision(3));
  const power = Math.min(4, Math.max(-3, Math.floor(Math.log10(Math.abs(rounded)) / 3 + 1e-12)));
  return `${significant(rounded / 1000 ** power)} ${PREFIXES[power + 3]}${unit}`;
}
function factor(value) {
  if (value === null) return "–";
  return Number(value.toPrecision(3)) < 1e4 ? `${significant(value)}×` : `${quantity(value, "").replace(" ", "")}×`;
}
const speedup = (value) => (value !== null && value < 1 ? `${factor(1 / value)} slower` : factor(value));
const interval = (low, high, format) => (low === null ? "" : `${format(low)} to ${format(high)}`);

// ---- charts
const byId = (id) => document.getElementById(id);
const control = { slice: byId("slice"), against: byId("against"), fixed: byId("fixed"), scales: byId("scales") };
const boxes = [...document.querySelectorAll("#implementations input")];
const looks = Object.fromEntries(data.implementations.map((one) => [one.name, one]));
const plots = {};

// What the figures call, and what a console or a test may ask.
window.softmaxBench = {
  tick: (value, unit) => (unit === "size" ? sizeText(value) : quantity(value, unit)),
  points: (key) => plots[key].select("points").data,
  scale: (key) => plots[key].model.y_scale.type,
  ink: (key) => plots[key].axes[0].major_label_text_color,
  screen: (key, number) => plots[key].screen(number),
};
const sizeText = (value) => (control.against.value === "working_set_bytes" ? quantity(value, "B") : String(value));
const sliceOf = (row) => SLICE.map((name) => row[name]).join("|");
const unique = (values) => [...new Set(values)];
const setOptions = (select, entries, chosen) => {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
};

function fillSlices() {
  const counts = new Map();
  for (const row of rows) counts.set(sliceOf(row), (counts.get(sliceOf(row)) ?? 0) + (row.status === "measured"));
  const texts = [...counts].sort((a, b) => b[1] - a[1]).map(([key]) => {
    const [operation, dtype, logits, threads] = key.split("|");
    const pool = threads === "1" ? "1 thread" : `${threads} threads`;
    return [key, `${data.operations[operation] ?? operation}, ${dtype}, ${logits} logits, ${pool}`];
  });
  setOptions(control.slice, texts, texts[0]?.[0]);
}

function fillFixed() {
  const held = AXES[control.against.value];
  const sizes = held ? unique(chosen().map((row) => row[held])).sort((a, b) => a - b) : [];
  const usual = sizes.includes(USUAL_FIXED) ? USUAL_FIXED : sizes.includes(512) ? 512 : sizes.at(-1);
  setOptions(control.fixed, sizes.map((size) => [size, `${held} ${size}`]), usual);
  control.fixed.disabled = sizes.length === 0;
}

const chosen = () => rows.filter((row) => sliceOf(row) === control.slice.value);

function update() {
  const held = AXES[control.against.value];
  const on = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const mine = chosen().filter((row) => on.has(row.implementation) && (!held || row[held] === Number(control.fixed.value)));
  const present = new Set(chosen().map((row) => row.implementation));
  for (const box of boxes) box.closest("label").hidden = !present.has(box.value);
  draw("time", mine, (row) => (row.status === "measured" ? row.time_s : null));
  draw("peak", mine, (row) => (row.status === "measured" ? row.peak_bytes : row.predicted_peak_bytes));
}

function draw(key, mine, valueOf) {
  const plot = plots[key];
  const unit = key === "time" ? "s" : "B";
  const against = control.against.value;
  const linear = control.scales.value === "linear";
  const ground = getComputedStyle(document.documentElement).getPropertyValue("--ground").trim();
  const lines = { xs: [], ys: [], colour: [], dash: [], width: [] };
  const points = { x: [], y: [], low: [], high: [], colour: [], fill: [], marker: [], label: [], case: [], value: [], more: [] };
  const said = [];
  for (const name of unique(mine.map((row) => row.implementation))) {
    const look = looks[name];
    const colour = darkness.matches ? look.dark : look.colour;
    const found = mine.filter((row) => row.implementation === name && valueOf(row) > 0).sort((a, b) => a[against] - b[against]);
    const solid = found.filter((row) => row.status === "measured");
    if (against !== "working_set_bytes" && solid.length) {
      lines.xs.push(solid.map((row) => row[against]));
      lines.ys.push(solid.map(valueOf));
      lines.colour.push(colour);
      lines.dash.push(look.dash);
      lines.width.push(look.own ? 3.5 : 1.6);
    }
    for (const row of found) {
      const hollow = row.status !== "measured" || (key === "time" && row.settled === 0);
      points.x.push(row[against]);
      points.y.push(valueOf(row));
      points.low.push(key === "time" ? row.time_low_s ?? NaN : NaN);
      points.high.push(key === "time" ? row.time_high_s ?? NaN : NaN);
      points.colour.push(colour);
      points.fill.push(hollow ? ground : colour);
      points.marker.push(look.marker);
      points.label.push(name);
      points.case.push(`${row.batch} × ${row.features}`);
      points.value.push(valueText(key, row, valueOf(row), unit));
      points.more.push(moreText(row));
    }
    if (solid.length) said.push(endsText(name, solid, against, valueOf, unit));
  }
  setScale(plot, linear);
  plot.select("lines").data = lines;
  plot.select("points").data = points;
  setRanges(plot, points, linear, key === "peak" && !linear ? data.memory_bytes : null);
  byId(`finding-${key}`).textContent = said.length ? `${said.join("; ")}.` : "Nothing that is switched on was measured here.";
  byId(`empty-${key}`).hidden = points.x.length > 0;
}

function valueText(key, row, value, unit) {
  if (row.status !== "measured") return `${quantity(value, unit)} predicted, ${row.status}`;
  if (key === "peak") return quantity(value, unit);
  const reach = interval(row.time_low_s, row.time_high_s, (bound) => quantity(bound, "s"));
  return `${quantity(value, unit)}${reach && ` (${reach})`}${row.settled === 0 ? ", not settled" : ""}`;
}

function moreText(row) {
  if (row.status !== "measured") return row.reason;
  const reach = interval(row.speedup_low, row.speedup_high, factor);
  return row.speedup === null ? "" : `${speedup(row.speedup)} vs the Jacobian${reach && ` (${reach})`}`;
}

function endsText(name, solid, against, valueOf, unit) {
  const [first, last] = [solid[0], solid.at(-1)];
  const at = (row) => `${quantity(valueOf(row), unit)} at ${row.batch} × ${row.features}`;
  return first === last ? `${name}: ${at(first)}` : `${name}: from ${at(first)} to ${at(last)}`;
}

function setScale(plot, linear) {
  const Scale = Bokeh.Models.get(linear ? "LinearScale" : "LogScale");
  if (plot.model.x_scale.type !== (linear ? "LinearScale" : "LogScale")) {
    plot.model.x_scale = new Scale();
    plot.model.y_scale = new Scale();
  }
  for (const axis of plot.axes) axis.visible = axis.tags.includes(linear ? "linear" : "log");
  for (const grid of plot.grids) grid.axis = plot.axes.find((axis) => axis.visible && plot.sideOf(axis) === grid.dimension);
  const labels = { features: "features", batch: "batch", working_set_bytes: "working set: the arrays that must be moved" };
  for (const axis of plot.axes) if (plot.sideOf(axis) === 0) axis.axis_label = labels[control.against.value];
}

function setRanges(plot, points, linear, wall) {
  const values = [...points.y, ...points.low, ...points.high].filter((value) => value > 0);
  const top = Math.max(...values, wall ?? 0);
  const pairs = [
    [plot.model.x_range, Math.min(...points.x), Math.max(...points.x)],
    [plot.model.y_range, Math.min(...values), top],
  ];
  for (const [range, low, high] of pairs) {
    if (!(high > 0)) continue;
    const pad = linear ? 0.04 * high : (high / low) ** 0.04 * 1.05;
    const ends = linear ? { start: 0, end: high + pad } : { start: low / pad, end: high * pad };
    range.setv({ ...ends, reset_start: ends.start, reset_end: ends.end });
  }
}

function applyTheme() {
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  for (const plot of Object.values(plots)) {
    for (const axis of plot.axes) {
      axis.setv({
        major_label_text_color: ink, axis_label_text_color: ink,
        axis_line_color: ink, major_tick_line_color: ink, minor_tick_line_color: line,
      });
    }
    for (const grid of plot.grids) grid.grid_line_color = line;
  }
  document.documentElement.classList.toggle("dark", darkness.matches);
}

// A plot with what the functions above change of it.
function opened(view) {
  const { model } = view;
  const sources = Object.fromEntries(model.renderers.filter((one) => one.data_source).map((one) => [one.data_source.name, one.data_source]));
  const sides = [model.below, model.left].map((side) => side.filter((one) => one.tags.includes("log") || one.tags.includes("linear")));
  return {
    model,
    axes: sides.flat(),
    grids: model.center.filter((one) => one.type.endsWith("Grid")),
    sideOf: (axis) => sides.findIndex((side) => side.includes(axis)),
    select: (name) => sources[name],
    screen: (number) => {
      const [corner, frame, { x, y }] = [view.el.getBoundingClientRect(), view.frame, sources.points.data];
      return [corner.x + frame.x_scale.compute(x[number]), corner.y + frame.y_scale.compute(y[number])];
    },
  };
}

const darkness = window.matchMedia("(prefers-color-scheme: dark)");

async function drawCharts() {
  Bokeh.logger.set_level("error");
  for (const [key, item] of Object.entries(data.charts)) {
    const [view] = [...await Bokeh.embed.embed_item(item, `chart-${key}`)];
    plots[key] = opened(view);
  }
  fillSlices();
  fillFixed();
  applyTheme();
  update();
  control.slice.addEventListener("change", () => { fillFixed(); update(); });
  control.against.addEventListener("change", () => { fillFixed(); update(); });
  for (const select of [control.fixed, control.scales]) select.addEventListener("change", update);
  for (const box of boxes) box.addEventListener("change", update);
  for (const [id, wanted] of [["all", () => true], ["none", () => false], ["first", (box) => looks[box.value].shown]]) {
    byId(id).addEventListener("click", () => { for (const box of boxes) box.checked = wanted(box); update(); });
  }
  darkness.addEventListener("change", () => { applyTheme(); update(); });
}

// ---- the table
const plain = (name) => ({ title: name, data: place[name], render: DataTableText });
const numeric = (title, name, format) => ({
  title, data: place[name], type: "num", className: "dt-right",
  render: (value, kind) => (kind === "display" ? (value === null ? "–" : format(value)) : value ?? (kind === "export" ? "" : -1)),
});
function DataTableText(value, kind) {
  if (kind !== "display") return value;
  const text = document.createElement("span");
  text.textContent = value;
  return text.innerHTML;
}

async function fillTable() {
  const { default: DataTable } = await import(byId("datatables").textContent.trim());
  const seconds = (value) => quantity(value, "s");
  const bytes = (value) => quantity(value, "B");
  const table = new DataTable("#rows", {
    data: data.rows,
    columns: [
      ...["implementation", "batch", "features", "dtype", "logits", "threads", "status"].map(plain),
      numeric("time", "time_s", seconds),
      numeric("from", "time_low_s", seconds),
      numeric("to", "time_high_s", seconds),
      numeric("settled", "settled", (value) => (value ? "yes" : "no")),
      numeric("speed-up", "speedup", speedup),
      numeric("from", "speedup_low", factor),
      numeric("to", "speedup_high", factor),
      numeric("peak", "peak_bytes", bytes),
      numeric("predicted peak", "predicted_peak_bytes", bytes),
      numeric("memory ratio", "memory_ratio", factor),
      numeric("of the ceiling", "ceiling_share", (value) => `${Math.round(100 * value)}%`),
      numeric("error, ulp", "max_error_ulp", significant),
      ...["operation", "reason"].map(plain),
    ],
    order: [],
    deferRender: true,
    scrollX: true,
    scrollY: "60vh",
    scrollCollapse: true,
    scroller: true,
    columnControl: [["order"], { target: 1, content: ["search"] }],
    ordering: { indicators: false, handlers: false },
    layout: {
      topStart: { buttons: [{ extend: "csv", text: "Download the rows shown (CSV)", exportOptions: { orthogonal: "export" } }] },
      topEnd: "search", bottomStart: "info", bottomEnd: null,
    },
    language: { search: "Find in any column:", emptyTable: "The run has no rows.", info: "_START_ to _END_ of _TOTAL_ rows" },
  });
  window.softmaxBench.table = table;
  // The filters below the headings have no names of their own.
  table.columns().every((index) => {
    const title = table.column(index).title();
    for (const field of document.querySelectorAll(`td[data-dt-column="${index}"] :is(input, select)`)) {
      field.setAttribute("aria-label", field.matches("select") ? `how to filter ${title}` : `filter ${title}`);
    }
  });
}

await drawCharts();
await fillTable();
document.documentElement.dataset.ready = "yes";
