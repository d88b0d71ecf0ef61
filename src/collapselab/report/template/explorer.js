// The explorer: one pane, or two side by side. A pane shows a run at one of its steps: curves, sample, values.

const CHARTS = METADATA.charts.map((chart, i) => ({ ...chart, height: i ? 110 : 200, hasWords: !i }));
const JUMPS = [
  ["first step", () => 0],
  ...["onset_step", "total_collapse_step"].map((name) => [METADATA.events[name], (run) => run.events[name]]),
  ["last step", () => Infinity],
];

const explorer = { panes: [], isComparing: false, isLinked: true, isLog: false, n: 4, hidden: new Set(CHARTS.flatMap((chart) => chart.hidden)) };

function startExplorer() {
  const root = document.getElementById("panes");
  if (!root || !METADATA.runs.length) return;
  explorer.panes = [createPane(root, 0)];
  choose(explorer.panes[0], METADATA.shown);
  const bind = (id, name, read) =>
    document.getElementById(id).addEventListener("change", (event) => {
      explorer[name] = read(event.target);
      if (name === "isComparing") compare(root);
      redraw();
    });
  bind("compare", "isComparing", (input) => input.checked);
  bind("linked", "isLinked", (input) => input.checked);
  bind("log", "isLog", (input) => input.checked);
  bind("ngram", "n", (input) => Number(input.value));
  new ResizeObserver(redraw).observe(root);
  for (const link of document.querySelectorAll("a[data-run]"))
    link.addEventListener("click", () => choose(explorer.panes[0], Number(link.dataset.run)));
}

function compare(root) {
  for (const pane of explorer.panes.splice(1)) pane.root.remove();
  root.classList.toggle("two", explorer.isComparing);
  document.getElementById("linked").closest("label").hidden = !explorer.isComparing;
  if (!explorer.isComparing) return;
  const pane = createPane(root, 1);
  explorer.panes.push(pane);
  choose(pane, (explorer.panes[0].run + 1) % METADATA.runs.length);
}

function createPane(root, number) {
  const node = document.getElementById("pane").content.firstElementChild.cloneNode(true);
  const find = (name) => node.querySelector(`[data-part="${name}"]`);
  const pane = { root: node, find, number, run: null, data: null, stop: 0, charts: [], request: 0 };
  for (const [i, run] of METADATA.runs.entries()) find("run").append(create("option", { value: i }, run.label));
  find("run").setAttribute("aria-label", number ? "second run" : "run");
  find("slider").setAttribute("aria-label", number ? "step of the second run" : "step");
  find("run").addEventListener("change", (event) => choose(pane, Number(event.target.value)));
  find("slider").addEventListener("input", (event) => goToStep(pane, Number(event.target.value)));
  find("sample-choice").addEventListener("change", () => showStop(pane));
  node.addEventListener("keydown", (event) => byKey(pane, event));
  for (const [words, where] of JUMPS) {
    const button = create("button", { type: "button" }, words);
    button.addEventListener("click", () => goToStep(pane, where(METADATA.runs[pane.run])));
    find("jumps").append(button);
  }
  for (const chart of CHARTS) addChart(pane, chart);
  root.append(node);
  return pane;
}

function addChart(pane, chart) {
  const svg = create("svg", { role: "img", class: "small-chart", "data-chart": chart.name });
  const legend = create("div", { class: "legend", role: "group", "aria-label": `curves: ${chart.name}` });
  pane.find("charts").append(create("div", { class: "chart-box" }, svg), legend);
  const drawn = createChart(svg, chart);
  const drag = (event) => event.buttons === 1 && goToStep(pane, drawn.stepAt(event.clientX));
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    drag(event);
  });
  svg.addEventListener("pointermove", drag);
  pane.charts.push({ ...chart, ...drawn, svg, legend });
}

// Arrow keys move to the next kept step, on the slider and wherever in a pane they have no other meaning.
function byKey(pane, event) {
  const isSlider = event.target === pane.find("slider");
  if ((!isSlider && event.target.closest("input, select, button")) || event.altKey || event.ctrlKey || event.metaKey) return;
  const always = { ArrowLeft: -1, ArrowRight: 1 };
  const onSlider = { ArrowDown: -1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
  const move = always[event.key] ?? (isSlider ? onSlider[event.key] : undefined);
  if (move === undefined) return;
  event.preventDefault();
  goTo(pane, pane.stop + move);
}

async function choose(pane, run) {
  pane.run = run;
  pane.find("run").value = String(run);
  const request = ++pane.request;
  const data = await unpack(`run-${run}`);
  if (request !== pane.request) return; // another run was chosen meanwhile
  const { events, outcome, name } = METADATA.runs[run];
  const shownStep = pane.data ? pane.steps[pane.stop] : null;
  pane.data = data;
  pane.steps = data.stops.map((stop) => stop.step);
  pane.find("name").textContent = name;
  pane.find("outcome").textContent = outcome;
  pane.find("kept").textContent = keptWords(METADATA.runs[run]);
  pane.find("slider").disabled = !pane.steps.length;
  const linked = explorer.isLinked && pane.number ? currentStep(explorer.panes[0]) : null;
  const start = linked ?? shownStep ?? events.onset_step ?? 0;
  pane.stop = pane.steps.length ? nearestIndex(pane.steps, start) : 0;
  pane.find("jumps").childNodes.forEach((button, i) => (button.disabled = JUMPS[i][1](METADATA.runs[run]) === undefined));
  redraw();
}

function keptWords(run) {
  if (!run.num_sampled_steps) return "No samples were recorded.";
  if (run.num_steps_shown === run.num_sampled_steps) return "";
  const [kept, all] = [run.num_steps_shown, run.num_sampled_steps].map((n) => n.toLocaleString("en-US"));
  return `This page has the samples of ${kept} of ${all} steps; the slider stops at those.`;
}

const currentStep = (pane) => (pane.data && pane.steps.length ? pane.steps[pane.stop] : null);

function goToStep(pane, step) {
  if (pane.data && pane.steps.length) goTo(pane, nearestIndex(pane.steps, step));
}

function goTo(pane, index) {
  if (!pane.data) return;
  pane.stop = Math.min(Math.max(0, index), Math.max(0, pane.steps.length - 1));
  showStop(pane);
  const other = explorer.panes.find((one) => one !== pane);
  if (!other?.data || !explorer.isLinked || !other.steps.length) return;
  other.stop = nearestIndex(other.steps, currentStep(pane));
  showStop(other);
}

// Draws all panes: after a change of run, of width, of the shown curves. Two panes share their axes.
function redraw() {
  const panes = explorer.panes.filter((pane) => pane.data);
  const lastStep = Math.max(1, ...panes.map((pane) => pane.data.curves.step.at(-1) ?? 0));
  CHARTS.forEach((chart, i) => {
    const isLog = explorer.isLog && chart.name === "loss";
    const curves = panes.map((pane) => curvesOf(pane, chart));
    const drawn = curves.map((all) => all.filter((curve) => !explorer.hidden.has(curve.key)));
    const common = extent(drawn.flat(), isLog);
    panes.forEach((pane, j) => {
      pane.find("slider").max = String(lastStep);
      const events = Object.entries(METADATA.runs[pane.run].events);
      const view = { steps: pane.data.curves.step, curves: drawn[j], events: events.sort((a, b) => a[1] - b[1]), lastStep, extent: common, isLog };
      pane.charts[i].draw(view);
      showLegend(pane.charts[i].legend, curves[j]);
    });
  });
  panes.forEach(showStop);
}

// A curve has the same colour in all panes: that of its place among all curves of the chart.
function curvesOf(pane, chart) {
  const recorded = pane.data.curves;
  return chart.curves.flatMap(({ name, label }, i) => (name in recorded ? [{ key: name, words: visible(label), style: `curve-${i && 1 + ((i - 1) % 4)}`, values: recorded[name] }] : []));
}

function showLegend(legend, curves) {
  const wanted = curves.map((curve) => curve.key).join("\n");
  if (legend.dataset.curves === wanted) {
    for (const input of legend.querySelectorAll("input")) input.checked = !explorer.hidden.has(input.value);
    return;
  }
  legend.dataset.curves = wanted;
  legend.replaceChildren(...curves.map(legendEntry));
}

function legendEntry(curve) {
  const input = create("input", { type: "checkbox", value: curve.key });
  input.checked = !explorer.hidden.has(curve.key);
  input.addEventListener("change", () => {
    if (input.checked) explorer.hidden.delete(curve.key);
    else explorer.hidden.add(curve.key);
    redraw();
  });
  const swatch = create("svg", { width: 26, height: 10, "aria-hidden": "true" }, create("line", { x1: 0, x2: 26, y1: 5, y2: 5, class: `curve ${curve.style}` }));
  return create("label", {}, input, swatch, curve.words);
}

// Shows the pane's step: the marker in the curves, the values, the sample.
function showStop(pane) {
  const stop = pane.data.stops[pane.stop];
  const run = METADATA.runs[pane.run];
  const words = stop ? `step ${stop.step}${run.last_step === null ? "" : ` of ${run.last_step}`}` : "no steps recorded";
  pane.find("step").textContent = words;
  pane.find("slider").value = String(stop?.step ?? 0);
  pane.find("slider").setAttribute("aria-valuetext", words);
  pane.root.dataset.step = stop ? stop.step : "";
  if (!stop) return pane.find("sample").replaceChildren();
  const values = Object.fromEntries(pane.data.names.map((name, i) => [name, stop.values[i]]));
  for (const chart of pane.charts) {
    chart.mark(stop.step);
    chart.svg.setAttribute("aria-label", spokenChart(pane, chart, stop.step));
  }
  showValues(pane.find("values"), values);
  showSampleOf(pane, stop, values);
}

function spokenChart(pane, chart, step) {
  const i = nearestIndex(pane.data.curves.step, step);
  const values = curvesOf(pane, chart).filter((curve) => !explorer.hidden.has(curve.key)).map((curve) => `${curve.words} ${shown(curve.values[i])}`);
  return `${chart.name} against step; at step ${step}: ${values.join(", ")} (${chart.unit})`;
}

function showValues(body, values) {
  const names = Object.keys(values);
  const rows = names.filter((name) => !name.includes("_se[")).map((name) => {
    const error = values[name.replace("_nats[", "_se[")];
    const text = shown(values[name]) + (name.includes("_nats[") && typeof error === "number" ? ` ± ${shown(error)}` : "");
    const id = METADATA.defined[name.replace(/\[.*$/s, "")];
    const title = visible(name);
    return create("tr", {}, create("th", { scope: "row" }, id ? create("a", { href: `#${id}` }, title) : title), create("td", {}, text));
  });
  body.replaceChildren(...rows);
}

function showSampleOf(pane, stop, values) {
  const choice = pane.find("sample-choice");
  const names = stop.samples.map((sample, i) => sampleName(stop.samples, i));
  if (choice.dataset.names !== names.join("\n")) {
    choice.dataset.names = names.join("\n");
    choice.replaceChildren(...names.map((name, i) => create("option", { value: i }, name)));
    choice.value = String(Math.max(0, stop.samples.findIndex((sample) => sample.role === "probe")));
  }
  choice.closest("label").hidden = names.length < 2;
  const sample = stop.samples[Number(choice.value)];
  const element = pane.find("sample");
  if (!sample) {
    element.replaceChildren();
    pane.find("marked").textContent = "no sample recorded at this step";
    return;
  }
  const share = showSample(element, sample.text, explorer.n);
  if (sample.cut) element.append(create("em", {}, ` … and ${sample.cut.toLocaleString("en-US")} more characters`));
  const judged = { true: "degenerate", false: "not degenerate" }[values.degenerate] ?? "not judged";
  const reasons = values.reasons?.length ? ` (${values.reasons.map(shown).join(", ")})` : "";
  pane.find("marked").textContent = `${Math.round(share * 100)} % of the words are in a repeated ${explorer.n}-gram · step ${judged}${reasons}`;
}

function sampleName(samples, i) {
  const { role, of } = samples[i];
  const place = samples.slice(0, i).filter((sample) => sample.role === role).length + 1;
  return `${METADATA.roles[role] ?? role}${of ? ` ${place} of ${of}` : ""}`;
}
