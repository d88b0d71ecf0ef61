// The browser of an audit's texts: a filter, one text at a time, its verdict and metrics.

const part = (id) => document.getElementById(id);

function showText(sample) {
  const text = sample.text;
  if (!sample.loop) {
    part("text").replaceChildren(visible(text));
    return;
  }
  const [start, second, end] = sample.loop;
  part("text").replaceChildren(
    visible(text.slice(0, start)),
    create("mark", {}, visible(text.slice(start, second))),
    create("em", {}, visible(text.slice(second, end))),
    visible(text.slice(end)),
  );
}

function verdictOf(sample) {
  if (sample.degenerate === null) return "too short to be judged alone";
  if (!sample.degenerate) return "healthy";
  return `degenerate: ${METADATA.kinds[sample.kind] ?? sample.kind} (${rulesInWords(sample.reasons)})`;
}

async function browse() {
  const samples = await unpack("samples");
  let chosen = samples;
  let at = 0;
  for (const kind of new Set(samples.map((sample) => sample.kind).filter(Boolean)))
    part("kind").append(create("option", { value: kind }, kind));

  function show() {
    const sample = chosen[at];
    part("place").textContent = sample ? `${at + 1} of ${chosen.length}: ${visible(sample.place)}` : "none";
    part("previous").disabled = at <= 0;
    part("next").disabled = at >= chosen.length - 1;
    part("verdict").textContent = sample ? verdictOf(sample) + (sample.by === null ? "" : `; group ${visible(sample.by)}`) : "";
    part("cut").textContent = sample && sample.cut ? `… and ${shown(sample.cut)} more characters` : "";
    if (sample) showText(sample);
    else part("text").replaceChildren();
    const rows = Object.entries(sample ? sample.values : {});
    part("values").replaceChildren(
      ...rows.map(([name, value]) => create("tr", {}, create("th", { scope: "row" }, name), create("td", {}, shown(value)))),
    );
  }

  function filter() {
    const kind = part("kind").value;
    const sought = part("search").value.toLowerCase();
    const fits = (sample) =>
      kind === "" || sample.kind === kind || (kind === "degenerate" && sample.degenerate) || (kind === "healthy" && sample.degenerate === false);
    chosen = samples.filter((sample) => fits(sample) && sample.text.toLowerCase().includes(sought));
    at = 0;
    show();
  }

  part("kind").addEventListener("change", filter);
  part("search").addEventListener("input", filter);
  part("previous").addEventListener("click", () => { at--; show(); });
  part("next").addEventListener("click", () => { at++; show(); });
  if (samples.some((sample) => sample.degenerate)) part("kind").value = "degenerate";
  filter();
}

browse();
