// Links to a run at a step, the clipboard, and files made in the page.

// The run and the step that the address names: #run=…&step=…; null if it names no run of this page.
function addressed() {
  const words = new URLSearchParams(location.hash.slice(1));
  const run = METADATA.runs.findIndex(({ name }) => name === words.get("run"));
  const step = Number(words.get("step"));
  return run < 0 ? null : { run, step: words.has("step") && Number.isFinite(step) ? step : null };
}

function addressOf(run, step) {
  const words = `run=${encodeURIComponent(METADATA.runs[run].name)}`;
  return `${location.href.split("#")[0]}#${step === null ? words : `${words}&step=${step}`}`;
}

// Copies a text and says so on the button for a moment.
async function copy(text, button) {
  const isDone = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  const words = button.dataset.words ?? button.textContent;
  button.dataset.words = words;
  button.textContent = isDone || copySelected(text) ? "copied" : "the browser refuses";
  setTimeout(() => (button.textContent = words), 1500);
}

// The old way, for browsers that give pages from files no clipboard.
function copySelected(text) {
  const box = create("textarea", { readonly: "" });
  box.value = text;
  document.body.append(box);
  box.select();
  const isDone = document.execCommand("copy");
  box.remove();
  return isDone;
}

function download(name, content, type) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  create("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// A table's cells as tab-separated lines, which spreadsheets take.
function tableText(table) {
  const clean = (cell) => cell.textContent.trim().replace(/[\t\n]+/g, " ");
  return [...table.rows].map((row) => [...row.cells].map(clean).join("\t")).join("\n");
}
