// A sample with its repeated n-grams marked. Records keep no borders of tokens, so the n-grams here consist of words,
// single signs and line ends; `seq_rep_n` counts tokens.

const UNITS = /\n|[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}]|[\p{L}\p{M}\p{N}_'’]+|[^\S\n]+|./gsu;

// [text, is it inside an n-gram that occurs earlier in the sample] of each unit; white space except line ends is attached to it.
function markRepeats(text, n) {
  const pieces = text.match(UNITS) ?? [];
  const counted = pieces.flatMap((piece, i) => (/^[^\S\n]/.test(piece) ? [] : [i]));
  const repeated = new Array(pieces.length).fill(false);
  const seen = new Set();
  for (let i = 0; i + n <= counted.length; i++) {
    const window = counted.slice(i, i + n);
    const key = window.map((j) => pieces[j]).join("\u0000");
    if (seen.has(key)) for (let j = window[0]; j <= window[n - 1]; j++) repeated[j] = true;
    seen.add(key);
  }
  return { pieces, repeated, share: counted.filter((i) => repeated[i]).length / Math.max(1, counted.length) };
}

// Fills an element with a sample; returns the share of marked units.
function showSample(element, text, n) {
  const { pieces, repeated, share } = markRepeats(text, n);
  const parts = [];
  for (let start = 0; start < pieces.length; ) {
    let end = start + 1;
    while (end < pieces.length && repeated[end] === repeated[start]) end++;
    const words = withLineEnds(visible(pieces.slice(start, end).join("")));
    parts.push(repeated[start] ? create("mark", {}, words) : words);
    start = end;
  }
  element.replaceChildren(...parts);
  return share;
}

// Line ends become a sign; three or more in a row stay on one line, so that a text of line ends stays readable.
function withLineEnds(text) {
  return text.replace(/\n+/g, (ends) => "⏎".repeat(ends.length) + "\n".repeat(Math.min(ends.length, ends.length > 2 ? 1 : 2)));
}
