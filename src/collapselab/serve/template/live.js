// The live page: rows that follow the server's events, and one run with its curves and the text of a step.

const rows = new Map(); // by id: { row, element }
const find = (id) => document.getElementById(id);
const charts = {
  losses: createChart(find("losses"), { height: 180, unit: "nats per token", hasWords: true }),
  shares: createChart(find("shares"), { height: 100, unit: "share", hasWords: false }),
};
let chosen = null; // id of the run shown
let view = null; // its curves
let wanted = null; // step in the address, until the run is there

function cell(text, style = "") {
  return create("td", style ? { class: style } : {}, text);
}

function spark(steps, values) {
  const [width, height] = [72, 16];
  const known = values.filter((value) => value !== null);
  const svg = create("svg", { class: "spark", width, height, "aria-hidden": "true" });
  if (known.length < 2) return svg;
  const [low, high] = [Math.min(0, ...known), Math.max(...known) || 1];
  const points = values.flatMap((value, i) =>
    value === null ? [] : [`${((steps[i] / Math.max(1, steps.at(-1))) * width).toFixed(1)},${(height - 1 - ((value - low) / (high - low)) * (height - 2)).toFixed(1)}`],
  );
  svg.append(create("path", { d: `M${points.join("L")}` }));
  return svg;
}

function fill(element, row) {
  const name = create("button", { type: "button" }, visible(row.name));
  name.addEventListener("click", () => choose(row.id));
  element.className = `${row.damage ? "damaged" : ""} ${row.id === chosen ? "chosen" : ""}`;
  if (row.damage) return element.replaceChildren(create("th", { scope: "row" }, visible(row.name)), create("td", { colspan: 9 }, visible(row.damage)));
  const withSpark = (words, name) => {
    const made = cell(words, "number");
    made.append(spark(row.steps, row.sparks[name] ?? []));
    return made;
  };
  element.replaceChildren(
    create("th", { scope: "row" }, name),
    cell(shown(row.model)), cell(shown(row.lr), "number"), cell(shown(row.seed), "number"),
    cell(shown(row.status), `status-${["running", "silent", "failed"].includes(row.status) ? row.status : "other"}`),
    cell(shown(row.step), "number"), cell(shown(row.fate)),
    withSpark(shown(row.train_nll_nats), "train_nll_nats"), cell(shown(row.val_nll_nats), "number"),
    withSpark(typeof row.seq_rep_4 === "number" ? percent(row.seq_rep_4) : shown(row.seq_rep_4), "seq_rep_4"),
  );
}

function take({ rows: news, removed }) {
  const body = find("rows");
  for (const id of removed) {
    rows.get(id)?.element.remove();
    rows.delete(id);
  }
  const fresh = document.createDocumentFragment();
  for (const row of news) {
    const known = rows.get(row.id) ?? { element: create("tr") };
    if (!known.row) fresh.append(known.element);
    known.row = row;
    rows.set(row.id, known);
    fill(known.element, row);
  }
  body.append(fresh);
  filter();
  count();
  restore();
  if (removed.includes(chosen)) find("outcome").textContent = "This run is gone.";
  else if (news.some((row) => row.id === chosen)) load();
}

function count() {
  const counts = new Map();
  for (const { row } of rows.values()) {
    const word = row.damage ? "damaged" : (row.status ?? "unknown");
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts].map(([word, number]) => `${number} ${visible(word)}`).join(", ");
  find("counts").textContent = rows.size ? `${rows.size} ${rows.size === 1 ? "run" : "runs"}: ${words}.` : "No runs here yet; they appear when they begin.";
}

function filter() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { element } of rows.values()) {
    const text = words.length ? element.textContent.toLowerCase() : "";
    element.hidden = !words.every((word) => text.includes(word));
  }
}

function choose(id, step = null) {
  const before = rows.get(chosen);
  chosen = id;
  view = null;
  wanted = step;
  find("follow").checked = step === null;
  for (const one of [before, rows.get(id)]) if (one) fill(one.element, one.row);
  find("chosen").hidden = false;
  find("chosen-title").textContent = visible(rows.get(id).row.name);
  find("report").href = `/runs/${id}/report`;
  load();
}

// The address names the run and the step, so it can be shared among those who reach this server.
function restore() {
  if (chosen !== null || location.hash.length < 2) return;
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const { row } of rows.values()) if (row.name === asked.get("run")) choose(row.id, asked.has("step") ? Number(asked.get("step")) : null);
}

let isLoading = false;
async function load() {
  if (isLoading) return;
  isLoading = true;
  const id = chosen;
  try {
    const answer = await fetch(`/runs/${id}/curves`);
    if (answer.ok && id === chosen) draw(await answer.json());
    else if (id === chosen) find("outcome").textContent = await answer.text();
  } finally {
    isLoading = false;
    if (id !== chosen) load();
  }
}

function draw(next) {
  if (!rows.has(chosen)) return;
  view = next;
  const { row } = rows.get(chosen);
  const lastStep = view.steps.at(-1) ?? 0;
  const texts = Object.keys(view.values).filter((name) => name.startsWith("val_nll_nats["));
  const losses = [["train_nll_nats", "own text", "curve-0"], ...texts.map((name, i) => [name, name.slice(13, -1), `curve-${1 + (i % 4)}`])];
  const shares = [["seq_rep_4", "repeated 4-grams", "curve-2"], ["degenerate_share", "degenerate share", "curve-3"]];
  const events = Object.keys(METADATA.events).filter((name) => row[name] !== null).map((name) => [name, row[name]]);
  for (const [name, list] of [["losses", losses], ["shares", shares]]) {
    const drawn = list.filter(([name]) => view.values[name]);
    const curves = drawn.map(([name, , style]) => ({ values: view.values[name], style }));
    charts[name].draw({ steps: view.steps, curves, events, lastStep, extent: extent(curves, false), isLog: false });
    const keys = drawn.map(([, word, style]) => [create("span", { class: `key ${style}` }), `${visible(word)}`]);
    find(`${name}-legend`).replaceChildren(...keys.map((parts) => create("span", {}, ...parts)));
  }
  find("outcome").textContent = [row.status, row.fate].filter(Boolean).map(visible).join(", ");
  find("slider").max = lastStep;
  const at = wanted ?? (find("follow").checked ? lastStep : Number(find("slider").value));
  wanted = null;
  show(Math.min(at, lastStep));
}

let asked = 0;
async function show(step) {
  if (!Number.isFinite(step) || !view) return;
  find("slider").value = step;
  find("step").textContent = `step ${step}`;
  for (const chart of Object.values(charts)) chart.mark(step);
  history.replaceState(null, "", `#${new URLSearchParams({ run: rows.get(chosen).row.name, step })}`);
  const number = ++asked;
  const answer = await fetch(`/runs/${chosen}/samples?step=${step}`);
  const found = answer.ok ? await answer.json() : [];
  if (number !== asked) return; // a later one was asked for meanwhile
  const [first] = found;
  const marks = first ? marked(first, 4) : { texts: [], shades: [], share: 0 };
  const cut = first?.cut ? `, without its last ${first.cut} characters` : "";
  find("about-sample").textContent = first
    ? `step ${step}, sample 1 of ${found.length} (${visible(first.role)})${cut}; marked: 4-grams that occurred before, ${percent(marks.share)}`
    : `no sample of step ${step}`;
  showSample(find("sample"), marks);
  document.documentElement.dataset.step = step;
}

find("filter").addEventListener("input", filter);
find("slider").addEventListener("input", () => {
  find("follow").checked = false;
  show(Number(find("slider").value));
});
find("follow").addEventListener("change", () => find("follow").checked && view && show(Number(find("slider").max)));
window.addEventListener("resize", () => view && draw(view));

const source = new EventSource("/events");
source.addEventListener("all", (event) => {
  rows.clear();
  find("rows").replaceChildren();
  take(JSON.parse(event.data));
  document.documentElement.dataset.ready = "true";
});
source.addEventListener("rows", (event) => take(JSON.parse(event.data)));
source.addEventListener("error", () => (find("counts").textContent = "The server does not answer; trying again."));
