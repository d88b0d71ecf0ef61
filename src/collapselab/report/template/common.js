"use strict";
// Shared by all parts of the page. Text reaches the document as text nodes only; nothing here parses markup.

const METADATA = JSON.parse(document.getElementById("metadata").textContent);
const SVG = "http://www.w3.org/2000/svg";
const INVISIBLE = /[\p{Cc}\p{Cs}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff\u{e0000}-\u{e007f}]/gu;

function create(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text"]);

// The value packed by report/packing.py into the element with this id.
async function unpack(id) {
  const binary = atob(document.getElementById(id).textContent.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// Control, direction and zero-width characters and lone surrogates spelled out, as describe.visible does in Python.
function visible(text) {
  return text.replace(INVISIBLE, (character) => {
    const code = character.codePointAt(0);
    if (character === "\n" || character === "\t") return character;
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

// A recorded value for people; unknown ones are a dash.
function shown(value) {
  if (value === null || value === undefined) return "–";
  if (value === "Infinity") return "∞";
  if (value === "-Infinity") return "−∞";
  if (Array.isArray(value)) return value.length ? value.map(shown).join(", ") : "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return visible(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(4))) : Number(value.toPrecision(3)).toExponential();
  return text.replace(/^-/, "−");
}

// As in Python (collapse/words.py): below a tenth with two digits.
const percent = (share) => `${share < 0.0995 ? Number((100 * share).toPrecision(2)) : (100 * share).toFixed(0)} %`;

const rulesInWords = (names) => names.map((name) => METADATA.rules[name] ?? shown(String(name).replaceAll("_", " "))).join(", ");

function nearestIndex(ascending, value) {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - ascending[low - 1] <= ascending[low] - value ? low - 1 : low;
}
