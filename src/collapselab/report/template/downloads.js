// Each figure as a file: SVG, PNG, CSV of its data, Vega-Lite.

function addDownloads(figure) {
  const box = figure.node.querySelector(".downloads");
  const key = figure.node.dataset.figure;
  const kinds = {
    SVG: async () => download(`${key}.svg`, await figure.view.toSVG(), "image/svg+xml"),
    PNG: async () => (await figure.view.toCanvas(2)).toBlob((blob) => download(`${key}.png`, blob)),
    CSV: () => download(`${key}.csv`, csv(figureRows(figure)), "text/csv"),
    "Vega-Lite": () => download(`${key}.vl.json`, JSON.stringify(figure.spec, null, 1), "application/json"),
  };
  const buttons = Object.entries(kinds).map(([words, act]) => {
    const button = create("button", { type: "button", "aria-label": `download ${key} as ${words}` }, words);
    button.addEventListener("click", act);
    return button;
  });
  box.append(...buttons);
  box.hidden = false;
}

// Comma-separated lines; cells that a spreadsheet would compute begin with an apostrophe.
function csv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : Array.isArray(value) ? value.join(" ") : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [names.map(cell), ...rows.map((row) => names.map((name) => cell(row[name])))].map((line) => line.join(",")).join("\n") + "\n";
}
