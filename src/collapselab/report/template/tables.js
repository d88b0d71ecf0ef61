// Tables sorted by a click on a column title: numbers by size, words alphabetically, unknown values last.

function makeSortable(table) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((cell, column) => {
    if ("fixed" in cell.dataset) return;
    const button = create("button", { type: "button", class: "sort" }, ...cell.childNodes);
    button.addEventListener("click", () => {
      const isDown = cell.getAttribute("aria-sort") === "ascending";
      titles.forEach((title) => title.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, isDown ? -1 : 1);
    });
    cell.append(button);
  });
}

function sortRows(body, column, direction) {
  const read = (row) => row.cells[column].textContent.trim();
  const compare = (a, b) => {
    if (a === b) return 0;
    if (a === "–" || b === "–") return a === "–" ? 1 : -1;
    const [x, y] = [Number(a), Number(b)];
    return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
  };
  body.append(...[...body.rows].sort((a, b) => compare(read(a), read(b))));
}

// Shows the rows of a table that contain every word of the input.
function makeFilter(input, table, output) {
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [row, text] of rows) row.hidden = !words.every((word) => text.includes(word));
    const num = rows.filter(([row]) => !row.hidden).length;
    output.textContent = words.length ? `${num.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} runs` : "";
  });
}
