// A sample with its repeats marked. Records of today say where tokens end; of older ones, words and signs stand for tokens.

const WORDS = /\n|[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]|[\p{L}\p{M}\p{N}_'’]+|[^\S\n]+|./gsu;
const BOUNDS = [8, 16, 32]; // lengths of repeats at which the next shade begins
const NUM_SHADES = BOUNDS.length + 1;

// The units of a sample: their texts, and a key for each that counts, equal for equal units. Blanks between words do not count.
function unitsOf(sample) {
  if (!sample.tokens) {
    const texts = sample.text.match(WORDS) ?? [];
    return { texts, keys: texts.map((text) => (/^[^\S\n]/.test(text) ? null : text)) };
  }
  let start = 0;
  const texts = sample.tokens.map((length) => sample.text.slice(start, (start += length)));
  return { texts, keys: sample.ids ?? texts };
}

// Of each key the length of the longest match that begins there and began earlier too, overlap allowed; and the length of the
// longest such match that covers it. As metrics/matches.py; in quadratic time, which for a sample is a millisecond.
function matches(keys) {
  const numbers = new Map();
  const ids = Int32Array.from(keys, (key) => numbers.get(key) ?? (numbers.set(key, numbers.size), numbers.size - 1));
  const run = new Int32Array(ids.length + 1); // by distance: how long the text equals itself so far back
  const lengths = new Int32Array(ids.length);
  for (let i = ids.length - 1; i > 0; i--) {
    let longest = 0;
    for (let back = 1; back <= i; back++) {
      run[back] = ids[i] === ids[i - back] ? run[back] + 1 : 0;
      if (run[back] > longest) longest = run[back];
    }
    lengths[i] = longest;
  }
  const covering = new Int32Array(ids.length);
  for (let i = 0; i < ids.length; i++)
    for (let j = i; j < i + lengths[i]; j++) if (covering[j] < lengths[i]) covering[j] = lengths[i];
  return { lengths, covering };
}

const shadeOf = (length, n) => (length < n ? -1 : BOUNDS.filter((bound) => length >= bound).length);

// The units of a sample with the shade of each, -1 for what is new, and its share of repeated n-grams (seq_rep_n).
function marked(sample, n) {
  const { texts, keys } = unitsOf(sample);
  const counted = keys.flatMap((key, i) => (key === null ? [] : [i]));
  const { lengths, covering } = matches(counted.map((i) => keys[i]));
  const shades = new Int8Array(texts.length).fill(-1);
  counted.forEach((i, k) => (shades[i] = shadeOf(covering[k], n)));
  const whole = counted.map((i) => shades[i]);
  for (let i = 1; i + 1 < texts.length; i++) if (keys[i] === null) shades[i] = Math.min(shades[i - 1], shades[i + 1]);
  const numRepeated = lengths.reduce((sum, length) => sum + (length >= n), 0);
  return { texts, shades, whole, share: numRepeated / Math.max(1, lengths.length - n + 1) };
}

// Fills an element with a sample, its repeats marked.
function showSample(element, { texts, shades }) {
  const parts = [];
  for (let start = 0; start < texts.length; ) {
    let end = start + 1;
    while (end < texts.length && shades[end] === shades[start]) end++;
    const words = withLineEnds(visible(texts.slice(start, end).join("")));
    parts.push(shades[start] < 0 ? words : create("mark", { class: `shade-${shades[start]}` }, words));
    start = end;
  }
  element.replaceChildren(...parts);
}

// Line ends become a sign; three or more in a row stay on one line, so that a text of line ends stays readable.
function withLineEnds(text) {
  return text.replace(/\n+/g, (ends) => "⏎".repeat(ends.length) + "\n".repeat(Math.min(ends.length, ends.length > 2 ? 1 : 2)));
}
