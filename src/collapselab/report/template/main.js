// Starts the parts. Figures wait for the libraries, which come after this script.

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
startExplorer();
unpackFigures();
document.addEventListener("DOMContentLoaded", startFigures);
document.documentElement.dataset.ready = "true";
