// The figures: Vega-Lite drawn in the page, with controls for readers who do not use the pointer.
// Expressions run in Vega's interpreter (`ast`), so that the page needs no right to make code from text.

const TABLE_ROWS = 200; // of a figure's data, evenly chosen, read as a table
const AXES_PX = 90; // approximate width of everything outside the plots
const MIN_FACTOR = 0.25; // narrower plots are not readable
const PHONE_PX = 500;
const PAUSE_MS = 1000;
const figures = new Map();

// Unpacks all figures: a browser asks for them in print without a warning, and unpacking has to wait for streams.
function unpackFigures() {
  for (const node of document.querySelectorAll("figure[data-figure]")) {
    const figure = { node, box: node.querySelector(".vega > div"), spec: null, isStarted: false, view: null, isLog: false, width: 0 };
    figure.unpacked = unpack(`data-${node.dataset.figure}`).then((spec) => (figure.spec = spec));
    figures.set(node, figure);
  }
}

function startFigures() {
  const nodes = [...figures.keys()];
  if (!nodes.length) return;
  // Vega empties an element by way of innerHTML; that, and nothing else, is let through.
  window.trustedTypes?.createPolicy("default", { createHTML: (text) => (text === "" ? text : null) });
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) startFigure(entry.target);
  }, { rootMargin: "300px" });
  for (const node of nodes) observer.observe(node);
  whenIdle(nodes);
  // All drawing happens synchronously in the handler, so it is complete before the browser prints.
  window.addEventListener("beforeprint", () => nodes.forEach(startFigure));
  window.addEventListener("resize", () => {
    clearTimeout(startFigures.timer);
    startFigures.timer = setTimeout(() => figures.forEach(fitFigure), 200);
  });
}

// Figures that nobody has scrolled to are drawn one by one while the reader pauses: for print, and for search.
function whenIdle(nodes) {
  let lastInput = 0;
  for (const kind of ["pointerdown", "keydown", "wheel", "input"])
    window.addEventListener(kind, () => (lastInput = performance.now()), { capture: true, passive: true });
  const timer = setInterval(() => {
    if (performance.now() - lastInput < PAUSE_MS) return;
    const next = nodes.find((node) => !figures.get(node).isStarted);
    if (next) startFigure(next);
    else clearInterval(timer);
  }, PAUSE_MS);
}

async function startFigure(node) {
  const figure = figures.get(node);
  if (figure.isStarted) return;
  figure.isStarted = true;
  if (!figure.spec) await figure.unpacked;
  await drawFigure(figure);
  addControls(figure);
  addTable(figure);
  addDownloads(figure);
}

// Draws a figure in the available width. Each attempt costs at least a tenth of a second, so the first is a good guess.
async function drawFigure(figure) {
  figure.width = figure.box.clientWidth;
  const plots = plotWidth(variant(figure, 1));
  let factor = hasAxes(figure.spec) ? Math.min(figure.width < PHONE_PX ? 2 : 1, (figure.width - AXES_PX) / plots) : 0; // a drawing keeps its size
  for (let attempt = 0; attempt < 3; attempt++) {
    figure.view?.finalize();
    const options = { mode: "vega-lite", ast: true, actions: false, defaultStyle: false, logLevel: 1, renderer: "svg", tooltip: showTooltip };
    const { view, vgSpec } = await vegaEmbed(figure.box, variant(figure, factor), options);
    figure.view = view;
    figure.xScale = vgSpec.scales?.find(({ name }) => /(^|_)x$/.test(name))?.name;
    const svg = figure.box.querySelector("svg");
    figure.box.setAttribute("role", "img"); // Vega made it a document of graphics
    svg.setAttribute("aria-hidden", "true"); // title and caption are what a screen reader says, not every mark
    const { width } = svg.getBoundingClientRect();
    if (width <= figure.width || factor <= MIN_FACTOR) break; // the figure fits, or scrolls
    // Axes, gaps and margins keep their width.
    factor = Math.max(MIN_FACTOR, factor - (width - figure.width + 2) / plots);
  }
  sayIfWide(figure);
  figure.node.dataset.drawn = figure.isLog ? "log" : "linear";
}

// A phone shows no scroll bar.
function sayIfWide({ node, box }) {
  node.querySelector(".sideways")?.remove();
  if (box.scrollWidth <= box.clientWidth + 1) return;
  const words = document.createElement("p");
  words.className = "note hint sideways";
  words.textContent = "Wider than this window: scroll it sideways.";
  box.after(words);
}

function fitFigure(figure) {
  if (figure.view && Math.abs(figure.box.clientWidth - figure.width) > 8) drawFigure(figure).then(() => addControls(figure));
}

// The specification to draw now: narrower plots, on a phone below each other; logarithmic axes.
function variant(figure, factor) {
  const spec = structuredClone(figure.spec);
  if (figure.isLog) for (const pointer of spec.usermeta.log_scales) put(spec, pointer, { type: "log" });
  if (figure.width < PHONE_PX && hasAxes(spec)) {
    delete spec.title; // the page has its own title, which can wrap
    stack(spec);
  }
  if (factor > 0 && factor !== 1) resize(spec, factor);
  return spec;
}

function put(spec, pointer, value) {
  const keys = pointer.split("/").slice(1);
  const last = keys.pop();
  keys.reduce((node, key) => node[key], spec)[last] = value;
}

const inner = (spec) => ["hconcat", "vconcat", "concat", "layer"].flatMap((name) => spec[name] ?? []).concat(spec.spec ?? []);

const units = (part) => [part, ...inner(part).flatMap(units)];

function plotWidth(spec) {
  const own = typeof spec.width === "number" ? spec.width : 0;
  const widths = inner(spec).map(plotWidth);
  const columns = spec.concat && spec.columns ? spec.columns : spec.hconcat || spec.concat ? widths.length : 1;
  const rows = widths.map((_, i) => widths.slice(i, i + columns).reduce((a, b) => a + b, 0));
  return Math.max(own, 0, ...rows.filter((_, i) => i % columns === 0));
}

function resize(spec, factor) {
  if (typeof spec.width === "number") spec.width = Math.round(spec.width * factor);
  inner(spec).forEach((part) => resize(part, factor));
}

function stack(spec, width = plotWidth(spec)) {
  // A panel below another shares its title, until all panels are below each other.
  const [top, ...below] = (spec.vconcat ?? []).map((row) => row.hconcat ?? []);
  for (const row of below.filter((row) => row.length === top.length)) row.forEach((part, i) => top[i].title && (part.title ??= top[i].title));
  if (spec.hconcat) {
    const axis = units(spec.hconcat[0]).map((unit) => unit.encoding?.y?.axis).find((one) => one?.title);
    for (const part of spec.hconcat) {
      resize(part, width / plotWidth(part)); // each as wide as all were
      // Side by side, panels share the numbers and the title of the first; below each other, each has its own.
      for (const unit of units(part)) if (unit.encoding?.y?.axis && !unit.encoding.y.axis.title) unit.encoding.y.axis = structuredClone(axis ?? {});
    }
    spec.vconcat = spec.hconcat;
    spec.spacing = 40; // below each other, titles and axes need room
    delete spec.hconcat;
    delete spec.bounds;
  }
  for (const channel of Object.values(spec.encoding ?? {})) if (channel.legend) channel.legend.columns = 1;
  inner(spec).forEach((part) => stack(part, width));
}

const legends = (figure) => (figure.spec.params ?? []).filter((param) => param.bind === "legend");

function addControls(figure) {
  const box = figure.node.querySelector(".controls");
  const parts = legends(figure).map((param) => switches(figure, param));
  if (figure.spec.usermeta?.log_scales?.length) parts.push(logSwitch(figure));
  if ((figure.spec.params ?? []).some((param) => param.name === "zoom") && figure.xScale) parts.push(zoomButtons(figure));
  box.querySelector("div").replaceChildren(...parts);
  box.hidden = !parts.length;
}

// One checkbox per curve of a legend; it and the legend set the same selection.
function switches(figure, param) {
  const field = param.select.fields[0];
  const store = `${param.name}_store`;
  const values = legendValues(figure.spec, field, param.name);
  const inputs = values.map((value) => {
    const input = create("input", { type: "checkbox", value });
    input.checked = true;
    input.addEventListener("change", () => {
      const wanted = values.filter((_, i) => inputs[i].checked);
      // No tuple means "all", so "none" is a value that no curve has.
      const chosen = wanted.length === values.length ? [] : wanted.length ? wanted : [null];
      const fields = [{ field, channel: "color", type: "E" }];
      figure.view.data(store, chosen.map((one) => ({ unit: "", fields, values: [one] }))).runAsync();
    });
    return input;
  });
  figure.view.addDataListener(store, (_, tuples) => {
    const chosen = new Set(tuples.map((tuple) => tuple.values[0]));
    inputs.forEach((input, i) => (input.checked = !chosen.size || chosen.has(values[i])));
  });
  const labels = inputs.map((input, i) => create("label", {}, input, visible(String(values[i]))));
  return create("div", { role: "group", "aria-label": "curves" }, ...labels);
}

// The entries of the legend that a selection is bound to: the domain written out, or the values in the data.
function legendValues(spec, field, name) {
  const bound = units(spec).filter((unit) => unit.encoding?.color?.field === field && JSON.stringify(unit).includes(`"${name}"`));
  const domain = bound.map((unit) => unit.encoding.color.scale?.domain).find(Array.isArray);
  const rows = Object.values(spec.datasets ?? {}).flat();
  return domain ?? [...new Set(rows.map((row) => row[field]).filter((value) => value !== undefined))];
}

function logSwitch(figure) {
  const input = create("input", { type: "checkbox" });
  input.checked = figure.isLog;
  input.addEventListener("change", async () => {
    figure.isLog = input.checked;
    await drawFigure(figure);
    addControls(figure);
    figure.node.querySelector(".controls input[data-log]").focus();
  });
  input.dataset.log = "";
  return create("label", {}, input, "logarithmic axis");
}

// Zooming and moving along the x axis, for readers without a wheel. All panels of a figure share the selection `zoom`.
function zoomButtons(figure) {
  const { view } = figure;
  const signals = Object.keys(view.getState({ data: () => false, signals: () => true }).signals);
  const extents = signals.filter((name) => name.startsWith("zoom_") && !/^zoom_(tuple|x|y|translate|zoom|modify|toggle)/.test(name));
  const change = (shift, factor) => () => {
    const scale = view.scale(figure.xScale);
    const [forth, back] = scale.type === "log" ? [Math.log, Math.exp] : [Number, Number];
    for (const name of extents) {
      const [low, high] = (view.signal(name) ?? scale.domain()).map(forth);
      const [middle, half] = [(low + high) / 2 + shift * (high - low), ((high - low) / 2) * factor];
      view.signal(name, [middle - half, middle + half].map(back));
    }
    view.runAsync();
  };
  const reset = () => {
    for (const name of extents) view.signal(name, null);
    view.runAsync();
  };
  const acts = { "zoom in": change(0, 0.5), "zoom out": change(0, 2), left: change(-0.25, 1), right: change(0.25, 1), reset };
  const buttons = Object.entries(acts).map(([words, act]) => {
    const node = create("button", { type: "button" }, words);
    node.addEventListener("click", act);
    return node;
  });
  return create("div", { role: "group", "aria-label": "zoom" }, ...buttons);
}

// The data of a figure, one row per point: the largest of its sets, lists taken apart.
function figureRows(figure) {
  const sets = Object.values(figure.spec.datasets ?? {}).concat([figure.spec.data?.values ?? []]);
  const longest = sets.reduce((a, b) => (b.length > a.length ? b : a), []);
  return longest.filter((row) => !row.layer?.endsWith(" (mean)")).flatMap(unlisted); // a line to guide the eye was not measured
}

function unlisted(row) {
  const lists = Object.entries(row).filter(([, value]) => Array.isArray(value));
  const length = Math.max(...lists.map(([, list]) => list.length));
  if (!lists.length) return [row];
  return Array.from({ length }, (_, i) => ({ ...row, ...Object.fromEntries(lists.map(([name, list]) => [name, list[i]])) }));
}

// A figure without axes is a drawing: its data are positions on paper.
function hasAxes(spec) {
  const { x, y } = spec.encoding ?? {};
  return [x, y].some((channel) => channel?.field && channel.axis !== null) || inner(spec).some(hasAxes);
}

function addTable(figure) {
  const details = figure.node.querySelector(".data");
  details.hidden = !hasAxes(figure.spec);
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const rows = figureRows(figure);
    const every = Math.max(1, Math.ceil(rows.length / TABLE_ROWS));
    const names = [...new Set(rows.slice(0, 50).flatMap(Object.keys))];
    const cells = (tag, values) => create("tr", {}, ...values.map((value) => create(tag, {}, value)));
    const body = rows.filter((_, i) => i % every === 0).map((row) => cells("td", names.map((name) => shown(row[name]))));
    const words = every > 1 ? `Every ${every}th of ${rows.length.toLocaleString("en-US")} rows.` : `${rows.length} rows.`;
    const table = create("table", {}, create("thead", {}, cells("th", names.map(visible))), create("tbody", {}, ...body));
    const button = create("button", { type: "button" }, "copy table");
    button.addEventListener("click", () => copy(tableText(table), button));
    const title = figure.node.querySelector("h3").textContent;
    details.append(create("p", { class: "note" }, words, " ", button), create("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": `data of ${title}` }, table));
  });
}

function showTooltip(_, event, __, value) {
  const box = document.getElementById("tooltip");
  box.hidden = value === null || value === undefined || value === "";
  if (box.hidden) return;
  const rows = typeof value === "object" ? Object.entries(value) : [["", value]];
  box.replaceChildren(...rows.map(([name, text]) => create("div", {}, name.trim() ? `${visible(name)}: ` : "", create("b", {}, visible(String(text))))));
  const { width, height } = box.getBoundingClientRect();
  const [x, y] = [Math.min(event.clientX + 14, innerWidth - width - 8), event.clientY - height - 12];
  box.style.left = `${Math.max(8, x)}px`;
  box.style.top = `${y > 8 ? y : event.clientY + 18}px`;
}
