// The text at each step: one pane, or two side by side. A pane shows a run at one of its steps: barcode, curves, sample, values.

const CHARTS = METADATA.charts.map((chart, i) => ({ ...chart, height: i ? 110 : 150, hasWords: false }));
const JUMPS = [
  ["first step", () => 0],
  ...["warned_step", "onset_step", "total_collapse_step"].map((name) => [METADATA.events[name], (run) => run.events[name]]),
  ["last step", () => Infinity],
];

const explorer = { panes: [], isComparing: false, isLinked: true, isLog: false, n: 4, hidden: new Set(CHARTS.flatMap((chart) => chart.hidden)) };

function startExplorer() {
  const root = document.getElementById("panes");
  if (!root || !METADATA.runs.length) return;
  explorer.panes = [createPane(root, 0)];
  goToAddress() || choose(explorer.panes[0], METADATA.shown);
  window.addEventListener("hashchange", () => goToAddress() && root.scrollIntoView({ block: "nearest" }));
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
  // Barcodes are painted: in other colours, they have to be painted again.
  for (const media of ["(prefers-color-scheme: dark)", "print"]) matchMedia(media).addEventListener("change", redraw);
}

// Shows the run and the step that the address names, if it names one.
function goToAddress() {
  const place = addressed();
  if (place) choose(explorer.panes[0], place.run, place.step);
  return place !== null;
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
  find("play").addEventListener("click", () => togglePlay(pane));
  find("copy-text").addEventListener("click", (event) => copy(pane.sample?.text ?? "", event.target));
  find("copy-link").addEventListener("click", (event) => copy(addressOf(pane.run, currentStep(pane)), event.target));
  node.addEventListener("keydown", (event) => byKey(pane, event));
  for (const [words, where] of JUMPS) {
    const button = create("button", { type: "button" }, words);
    button.addEventListener("click", () => goToStep(pane, where(METADATA.runs[pane.run])));
    find("jumps").append(button);
  }
  root.append(node);
  pane.barcode = createBarcode(find("barcode"));
  dragged(pane, pane.barcode.svg, pane.barcode);
  CHARTS.forEach((chart, i) => addChart(pane, chart, ...(i ? [find("charts"), find("charts")] : [find("first-chart"), find("first-legend")])));
  const whose = number ? " of the second run" : "";
  find("sample").setAttribute("aria-label", `sample${whose}`);
  find("values").closest(".values").setAttribute("aria-label", `numbers of the step${whose}`);
  return pane;
}

function addChart(pane, chart, box, legendBox) {
  const svg = create("svg", { role: "img", class: "small-chart", "data-chart": chart.name });
  const whose = pane.number ? " of the second run" : "";
  const legend = create("div", { class: "legend", role: "group", "aria-label": `curves: ${chart.name}${whose}` });
  box.append(create("div", { class: "chart-box" }, svg));
  legendBox.append(legend);
  const drawn = createChart(svg, { ...chart, unit: `${chart.name} (${chart.unit})` });
  dragged(pane, svg, drawn);
  pane.charts.push({ ...chart, ...drawn, svg, legend });
}

// A drag in a chart moves the pane to the step below the pointer.
function dragged(pane, svg, { stepAt }) {
  const drag = (event) => event.buttons === 1 && goToStep(pane, stepAt(event.clientX));
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    drag(event);
  });
  svg.addEventListener("pointermove", drag);
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
  if (pane.timer) stopPlaying(pane);
  goTo(pane, pane.stop + move);
}

// Shows a run, at a step, or where the pane is, or at its onset.
async function choose(pane, run, step = null) {
  if (pane.timer) stopPlaying(pane);
  pane.isPaused = false;
  pane.run = run;
  pane.find("run").value = String(run);
  const request = ++pane.request;
  const data = await unpack(`run-${run}`);
  if (request !== pane.request) return; // another run was chosen meanwhile
  const { events, story, name } = METADATA.runs[run];
  const shownStep = pane.data ? pane.steps[pane.stop] : null;
  pane.data = data;
  pane.steps = data.stops.map((stop) => stop.step);
  pane.find("name").textContent = name;
  pane.find("outcome").textContent = story;
  pane.bars = null;
  pane.find("kept").textContent = keptWords(METADATA.runs[run]);
  pane.find("slider").disabled = !pane.steps.length;
  const linked = explorer.isLinked && pane.number ? currentStep(explorer.panes[0]) : null;
  const start = step ?? linked ?? shownStep ?? events.onset_step ?? 0;
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
  for (const pane of panes) drawBarcode(pane, lastStep);
  CHARTS.forEach((chart, i) => {
    const isLog = explorer.isLog && chart.name === "loss";
    const curves = panes.map((pane) => curvesOf(pane, chart));
    const drawn = curves.map((all) => all.filter((curve) => !explorer.hidden.has(curve.key)));
    const common = extent(drawn.flat(), isLog);
    panes.forEach((pane, j) => {
      pane.find("slider").max = String(lastStep);
      const view = { steps: pane.data.curves.step, curves: drawn[j], events: eventsOf(pane), lastStep, extent: common, isLog };
      pane.charts[i].draw(view);
      showLegend(pane.charts[i].legend, curves[j]);
    });
  });
  panes.forEach(showStop);
}

const eventsOf = (pane) => Object.entries(METADATA.runs[pane.run].events).sort((a, b) => a[1] - b[1]);

// The barcode of a run is made once for each length of repeats.
function drawBarcode(pane, lastStep) {
  const hasTexts = pane.data.stops.some((stop) => stop.samples.length);
  pane.find("barcode").hidden = !hasTexts;
  if (!hasTexts) return;
  if (pane.bars?.n !== explorer.n) pane.bars = { n: explorer.n, barcode: barcodeOf(pane.data, explorer.n) };
  pane.barcode.draw({ ...pane.bars, events: eventsOf(pane), lastStep, unit: unitWord(pane) });
}

const unitWord = (pane) => (pane.data.stops.some((stop) => judgedSample(stop)?.tokens) ? "tokens" : "words");

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
  pane.barcode.mark(stop.step);
  pane.barcode.svg.setAttribute("aria-label", `repeats in the samples against step; ${shares(values)} at step ${stop.step}`);
  for (const chart of pane.charts) {
    chart.mark(stop.step);
    chart.svg.setAttribute("aria-label", spokenChart(pane, chart, stop.step));
  }
  showValues(pane.find("values"), values);
  showSampleOf(pane, stop, values);
}

const shares = (values) => (typeof values.seq_rep_4 === "number" ? `${percent(values.seq_rep_4)} of the 4-grams are repeats` : "not measured");

function spokenChart(pane, chart, step) {
  const i = nearestIndex(pane.data.curves.step, step);
  const values = curvesOf(pane, chart).filter((curve) => !explorer.hidden.has(curve.key)).map((curve) => `${curve.words} ${shown(curve.values[i])}`);
  return `${chart.name} against step; at step ${step}: ${values.join(", ")} (${chart.unit})`;
}

// A number by its plain label, with its unit; its name in the records is in the definition that the label links to.
function showValues(body, values) {
  const names = Object.keys(values);
  const rows = names.filter((name) => !name.includes("_se[")).map((name) => {
    const error = values[name.replace("_nats[", "_se[")];
    const number = METADATA.numbers[name.replace(/\[.*\]$/s, "[TEXT]")];
    const text = name === "reasons" ? rulesInWords(values[name] ?? []) || "none" : inUnit(values[name], number?.unit, name.includes("_nats[") && typeof error === "number" ? error : null);
    const title = visible(number ? number.label.replace("TEXT", /\[(.*)\]$/s.exec(name)?.[1] ?? "TEXT") : name);
    return create("tr", { "data-name": name }, create("th", { scope: "row" }, number ? create("a", { href: `#${number.id}` }, title) : title), create("td", {}, text));
  });
  body.replaceChildren(...rows);
}

const UNITS_SAID = new Set(["nats per token", "nats", "tokens", "copies", "updates", "s"]);

function inUnit(value, unit, error) {
  if (typeof value !== "number") return shown(value);
  if (unit === "share") return percent(value);
  return `${shown(value)}${error === null ? "" : ` ± ${shown(Number(error.toPrecision(2)))}`}${UNITS_SAID.has(unit) ? ` ${unit}` : ""}`;
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
  pane.find("state").textContent = `Step ${stop.step}: ${stateWords(stop, values)}`;
  if (!sample) {
    element.replaceChildren();
    pane.sample = null;
    pane.find("marked").textContent = "no sample recorded at this step";
    return;
  }
  pane.sample = sample;
  const found = marked(sample, explorer.n);
  showSample(element, found);
  if (sample.cut) element.append(create("em", {}, ` … and ${sample.cut.toLocaleString("en-US")} more characters`));
  pane.find("marked").textContent = markedWords(sample, found.share, values);
}

// How much is repeated, by the number that the metric has: never a second one beside it.
function markedWords(sample, share, values) {
  const n = explorer.n;
  if (sample.tokens) return `${percent(share)} of the ${n}-grams occur earlier in this sample (seq_rep_${n}); their tokens are marked.`;
  const known = values[`seq_rep_${n}`];
  const words = typeof known === "number" ? `${percent(known)} of the ${n}-grams occur earlier in this sample (seq_rep_${n}). ` : "";
  return `${words}These records do not say where tokens end, so marks and barcode are made of words.`;
}

function stateWords(stop, values) {
  const judged = { true: "degenerate", false: "not degenerate" }[values.degenerate] ?? "not judged";
  return `${judged}${values.reasons?.length ? ` (${rulesInWords(values.reasons)})` : ""}`;
}

function sampleName(samples, i) {
  const { role, of } = samples[i];
  const place = samples.slice(0, i).filter((sample) => sample.role === role).length + 1;
  return `${METADATA.roles[role] ?? role}${of ? ` ${place} of ${of}` : ""}`;
}
