// Tables that are sorted by a click on the name of a column, or by Enter or the space bar on it: up, down, and back to
// the order of the report. Rows without a value come last in both directions.
"use strict";
(() => {
  const MISSING = new Set(["", "-", "–", "nan", "n/a"]);
  const NUMBER = /[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?/i;
  const DURATION = /^(?:\d+(?:\.\d+)? (?:h|min|s)\b ?)+$/;
  const SECONDS = { h: 3600, min: 60, s: 1 };
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  // The first number of a cell such as "0.754 ± 0.011" or "+0.013 [-0.008, +0.034]"; null if it has none.
  function numberOf(text) {
    if (DURATION.test(text)) {
      return [...text.matchAll(/([\d.]+) (h|min|s)/g)].reduce((sum, part) => sum + part[1] * SECONDS[part[2]], 0);
    }
    const found = NUMBER.exec(text);
    return found && Number(found[0].replaceAll(",", "").replace("−", "-"));
  }

  function keyOf(cell, isNumeric) {
    const text = cell.textContent.trim();
    if (MISSING.has(text.toLowerCase())) return null;
    return isNumeric ? numberOf(text) : text;
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
  }

  function sortBy(table, rows, column, direction) {
    const isNumeric = table.tHead.rows[0].cells[column].classList.contains("number");
    const sign = direction === "descending" ? -1 : 1;
    const keyed = rows.map((row) => ({ row, key: keyOf(row.cells[column], isNumeric) }));
    if (direction !== "none") {
      keyed.sort((a, b) => {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
        return sign * compare(a.key, b.key);
      });
    }
    table.tBodies[0].append(...keyed.map((entry) => entry.row));
  }

  for (const table of document.querySelectorAll(".table table")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) continue;
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort by this column";
      button.append(...header.childNodes);
      header.append(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const direction = NEXT[header.getAttribute("aria-sort")];
        for (const other of headers) other.setAttribute("aria-sort", "none");
        header.setAttribute("aria-sort", direction);
        sortBy(table, rows, column, direction);
      });
    });
  }
})();
