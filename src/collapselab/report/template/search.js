// Searches the samples of all runs that the page holds, run by run, so that the page stays quick.

const MAX_FOUND = 50;
const AROUND = 40; // characters shown on both sides

function startSearch() {
  const input = document.getElementById("search");
  let request = 0;
  input?.addEventListener("input", async () => {
    const wanted = input.value.toLowerCase();
    const mine = ++request;
    await new Promise((done) => setTimeout(done, 250));
    if (mine !== request) return;
    const box = document.getElementById("found");
    box.hidden = wanted.length < 2;
    if (box.hidden) return;
    const list = create("ol", {});
    const words = create("p", { class: "note" }, "searching …");
    box.replaceChildren(words, list);
    let num = 0;
    for (const [run, { label }] of METADATA.runs.entries()) {
      const data = await unpack(`run-${run}`);
      if (mine !== request) return;
      for (const stop of data.stops)
        for (const { text } of stop.samples) {
          const at = text.toLowerCase().indexOf(wanted);
          if (at >= 0 && ++num <= MAX_FOUND) list.append(foundEntry(run, label, stop.step, text, at, wanted.length));
        }
    }
    words.textContent = `${num.toLocaleString("en-US")} ${num === 1 ? "sample" : "samples"}${num > MAX_FOUND ? `, the first ${MAX_FOUND} of them:` : num ? ":" : ""}`;
  });
}

function foundEntry(run, label, step, text, at, length) {
  const link = create("a", { href: `#${addressOf(run, step).split("#")[1]}` }, `${visible(label)}, step ${step}`);
  const [before, found, after] = [text.slice(Math.max(0, at - AROUND), at), text.slice(at, at + length), text.slice(at + length, at + length + AROUND)];
  const clean = (part) => visible(part.replace(/\s+/g, " "));
  return create("li", {}, link, `: … ${clean(before)}`, create("mark", {}, clean(found)), `${clean(after)} …`);
}
