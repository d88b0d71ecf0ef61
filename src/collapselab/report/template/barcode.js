// The barcode of a run: steps across, as in the charts below it, and the units of each sample downward, dark where they repeat.

const BARCODE = { height: 150, edge: 6 };
const MAX_WORK = 1e8; // pairs of units compared for one barcode: some tenths of a second
const SHADE_WORDS = ["to 7", "8 to 15", "16 to 31", "32 or more"];

// Which of a run's stops are drawn, and the shades of their units.
function barcodeOf(data, n) {
  const texts = data.stops.map((stop) => judgedSample(stop)).map((sample) => sample && (sample.tokens ?? sample.text.match(WORDS) ?? []).length);
  const longest = Math.max(1, ...texts.map((length) => length ?? 0));
  const every = Math.max(1, Math.ceil((data.stops.length * longest ** 2) / MAX_WORK));
  const columns = data.stops.flatMap((stop, i) => {
    const sample = judgedSample(stop);
    return sample && i % every === 0 ? [{ step: stop.step, shades: marked(sample, n).whole }] : [];
  });
  const place = data.names.indexOf("degenerate");
  const judged = data.stops.map((stop) => ({ step: stop.step, isDegenerate: place >= 0 && stop.values[place] === true }));
  return { columns, judged, numUnits: Math.max(1, ...columns.map((column) => column.shades.length)) };
}

const judgedSample = (stop) => stop.samples.find((sample) => sample.role === "probe") ?? stop.samples[0];

// A barcode in `box`. draw(view) draws { barcode, events, lastStep, unit }, mark(step) moves the marker.
function createBarcode(box) {
  const canvas = create("canvas", { "aria-hidden": "true" });
  const svg = create("svg", { role: "img", class: "small-chart", "data-chart": "barcode" });
  const legend = create("p", { class: "legend shades" });
  box.append(create("div", { class: "barcode-box" }, canvas, svg), legend);
  const axes = createChart(svg, { height: BARCODE.height, unit: "", hasWords: true, hasSteps: false });

  function draw({ barcode, events, lastStep, unit, n }) {
    axes.draw({ steps: barcode.judged.map(({ step }) => step), curves: [], events, lastStep, extent: [barcode.numUnits, 0], isLog: false, unit: `position in the sample (${unit})` });
    const { left, top, width } = axes.plot();
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round((BARCODE.height + BARCODE.edge) * scale);
    Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${BARCODE.height + BARCODE.edge}px` });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(box);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const paint = (name, x, y, w, h) => {
      pen.fillStyle = colour(name);
      pen.fillRect(x, y, w, h);
    };
    const [wide, high] = [canvas.width, BARCODE.height * scale];
    paint("faint", 0, 0, wide, high);
    const shades = Array.from({ length: NUM_SHADES }, (_, i) => colour(`bar-${i}`));
    const unitHeight = high / barcode.numUnits;
    for (const { from, to, shades: column } of spans(barcode.columns, lastStep, wide))
      for (let start = 0; start < column.length; ) {
        let end = start + 1;
        while (end < column.length && column[end] === column[start]) end++;
        if (column[start] >= 0) {
          pen.fillStyle = shades[column[start]];
          pen.fillRect(from, start * unitHeight, to - from, (end - start) * unitHeight);
        }
        start = end;
      }
    for (const { from, to, isDegenerate } of spans(barcode.judged, lastStep, wide))
      if (isDegenerate) paint("marker", from, high + 2 * scale, to - from, (BARCODE.edge - 2) * scale);
    showShades(legend, n, unit);
  }

  return { draw, mark: axes.mark, stepAt: axes.stepAt, svg };
}

// Each item with the pixels that it covers: half-way to its neighbours, whole pixels, so that no seams show.
function spans(items, lastStep, wide) {
  const at = (step) => Math.round((Math.min(Math.max(0, step), lastStep) / Math.max(1, lastStep)) * wide);
  return items.map((item, i) => {
    const [before, after] = [items[i - 1]?.step ?? item.step, items[i + 1]?.step ?? item.step];
    return { ...item, from: at((item.step + before) / 2), to: Math.max(at((item.step + after) / 2), at((item.step + before) / 2) + 1) };
  });
}

function showShades(legend, n, unit) {
  const first = BOUNDS.filter((bound) => bound <= n).length;
  const words = SHADE_WORDS.slice(first).map((range, i) => [`bar-${first + i}`, i ? range : first ? range : `${n} ${range}`]);
  legend.replaceChildren(
    `Repeats earlier text of the sample, ${unit}: `,
    ...words.map(([name, range]) => create("span", {}, create("span", { class: `swatch ${name}` }), ` ${range} `)),
    create("span", {}, create("span", { class: "swatch edge" }), " step judged degenerate"),
  );
}
