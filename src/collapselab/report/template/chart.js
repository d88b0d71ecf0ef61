// The explorer's small line charts: curves against step, a marker that follows the slider, redrawn when the width changes.

const MARGIN = { left: 46, right: 14, bottom: 24, bottomWithoutSteps: 8 };
const EVENT_ROW = 15; // px for one row of labels above the plot
const EVENT_ROOM = 190; // px for the longest label and the axis

// About `count` round numbers inside an interval.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of high / low < 100 ? [1, 2, 5] : [1]) found.push(factor * 10 ** power);
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

function finite(values) {
  return values.filter((value) => typeof value === "number");
}

// Lowest and highest value for the axis of some curves; null if there is nothing to show.
function extent(curves, isLog) {
  const values = curves.flatMap((curve) => finite(curve.values)).filter((value) => !isLog || value > 0);
  if (!values.length) return null;
  const high = values.reduce((a, b) => Math.max(a, b));
  const low = values.reduce((a, b) => Math.min(a, b));
  if (isLog) return [low, Math.max(high, low * 2)];
  return [Math.min(0, low), high > 0 ? high * 1.05 : 1];
}

// A chart in `svg`. draw(view) draws { steps, curves, events, lastStep, extent, isLog }, mark(step) moves the marker.
// An extent from high to low makes an axis downward.
function createChart(svg, { height, unit, hasWords, hasSteps = true }) {
  let view = null;
  let scaleX = null;
  let scaleY = null;
  let marker = create("g");
  const top = (view) => 18 + (hasWords ? EVENT_ROW * view.events.length : 0);

  function draw(next) {
    view = next;
    const width = Math.max(240, svg.parentElement.clientWidth);
    const bottom = top(view) + height;
    svg.setAttribute("width", width);
    svg.setAttribute("height", bottom + (hasSteps ? MARGIN.bottom : MARGIN.bottomWithoutSteps));
    const [low, high] = view.extent ?? [0, 1];
    const place = view.isLog ? Math.log : (value) => value;
    scaleX = (step) => MARGIN.left + (step / Math.max(1, view.lastStep)) * (width - MARGIN.left - MARGIN.right);
    scaleY = (value) => bottom - ((place(value) - place(low)) / (place(high) - place(low))) * height;
    marker = create("g", { class: "marker" });
    svg.replaceChildren(
      create("text", { x: 0, y: 12, class: "unit" }, view.extent ? (view.unit ?? unit) : `${unit}: nothing recorded`),
      ...axes(width, bottom, view.isLog ? logTicks(low, high) : ticks(Math.min(low, high), Math.max(low, high), height > 150 ? 5 : 4)),
      ...view.events.flatMap(event),
      ...view.curves.map((curve) => create("path", { d: path(curve.values), class: `curve ${curve.style}` })),
      marker,
    );
  }

  function axes(width, bottom, values) {
    const lines = values.flatMap((value) => [
      create("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: scaleY(value), y2: scaleY(value), class: "grid" }),
      create("text", { x: MARGIN.left - 6, y: scaleY(value) + 4, class: "tick end" }, shown(Number(value.toPrecision(12)))),
    ]);
    const steps = ticks(0, Math.max(1, view.lastStep), width > 420 ? 8 : 5).filter(Number.isInteger);
    return lines.concat(
      (hasSteps ? steps : []).map((step) => create("text", { x: scaleX(step), y: bottom + 17, class: "tick middle" }, String(step))),
    );
  }

  // Labels are left of their rule, with later events higher; if the first event leaves no room, they are right of it,
  // with later events lower. Either way, no rule crosses the label of another.
  function event([name, step], i) {
    const isLeftward = scaleX(view.events[0][1]) > EVENT_ROOM;
    const y = 18 + EVENT_ROW * (isLeftward ? view.events.length - 1 - i : i);
    const isLeft = isLeftward || scaleX(step) > scaleX(view.lastStep) - EVENT_ROOM;
    const rule = { x1: scaleX(step), x2: scaleX(step), y1: hasWords ? y : top(view), y2: top(view) + height, class: "event" };
    const words = { x: scaleX(step) + (isLeft ? -5 : 5), y: y + 11, class: `tick ${isLeft ? "end" : ""}` };
    return [create("line", rule), ...(hasWords ? [create("text", words, `${METADATA.events[name]}, step ${step}`)] : [])];
  }

  // Unknown values are skipped; infinite ones, and those without a logarithm, are gaps.
  function path(values) {
    let isDown = false;
    const parts = values.map((value, i) => {
      if (value === null) return "";
      if (typeof value !== "number" || (view.isLog && value <= 0)) return (isDown = false), "";
      const command = isDown ? "L" : "M";
      isDown = true;
      return `${command}${scaleX(view.steps[i]).toFixed(1)},${scaleY(value).toFixed(1)}${command === "M" ? "h0" : ""}`;
    });
    return parts.join("") || "M0,0";
  }

  function mark(step) {
    if (!view) return;
    const i = nearestIndex(view.steps, step);
    const dots = view.curves
      .map((curve) => [curve, curve.values[i]])
      .filter(([, value]) => typeof value === "number" && (!view.isLog || value > 0))
      .map(([curve, value]) => create("circle", { cx: scaleX(step), cy: scaleY(value), r: 3.5, class: curve.style }));
    const line = { x1: scaleX(step), x2: scaleX(step), y1: top(view) - 4, y2: top(view) + height };
    marker.replaceChildren(create("line", line), ...dots);
    marker.setAttribute("data-step", step);
  }

  // Where the curves are, in pixels of the svg.
  const plot = () => ({ left: MARGIN.left, top: top(view), width: Number(svg.getAttribute("width")) - MARGIN.left - MARGIN.right });

  // The step below a point of the screen.
  function stepAt(clientX) {
    const width = svg.clientWidth - MARGIN.left - MARGIN.right;
    return ((clientX - svg.getBoundingClientRect().left - MARGIN.left) / width) * view.lastStep;
  }

  return { draw, mark, stepAt, plot };
}
