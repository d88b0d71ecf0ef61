// Starts the parts. Figures wait for the libraries, which come after this script.

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
makeFilter(document.getElementById("filter"), document.querySelector("table.runs"), document.getElementById("filtered"));
for (const button of document.querySelectorAll("button.copy-table"))
  button.addEventListener("click", () => copy(tableText(button.closest("details").querySelector("table")), button));
startExplorer();
startSearch();
unpackFigures();
document.addEventListener("DOMContentLoaded", startFigures);
document.documentElement.dataset.ready = "true";
