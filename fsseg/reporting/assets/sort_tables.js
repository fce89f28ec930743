// Tables that are sorted by a click on the name of a column, or by Enter or the space bar on it: up, down, and back to
// the order of the report. Rows without a value come last in both directions, and so does text among numbers.
"use strict";
(() => {
  const MISSING = new Set(["", "-", "–", "nan", "n/a"]);
  const IS_NUMBER = /^[[(]?[-+−±≤≥<>]?\d[\d.,]*(?:e[-+]?\d+)?(?=$|[\s%±–/,\])])/i;
  const NUMBER = /[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?/i;
  const DURATION = /^(?:\d+(?:\.\d+)? (?:h|min|s)\b ?)+$/;
  const SECONDS = { h: 3600, min: 60, s: 1 };
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  // The first number of a cell such as "0.754 ± 0.011" or "+0.013 [-0.008, +0.034]".
  function numberOf(text) {
    if (DURATION.test(text)) {
      return [...text.matchAll(/([\d.]+) (h|min|s)/g)].reduce((sum, part) => sum + part[1] * SECONDS[part[2]], 0);
    }
    const found = NUMBER.exec(text);
    return Number(found[0].replaceAll(",", "").replace("−", "-"));
  }

  function keysOf(rows, column) {
    const texts = rows.map((row) => row.cells[column].textContent.trim());
    const present = texts.filter((text) => !MISSING.has(text.toLowerCase()));
    const numbers = present.filter((text) => IS_NUMBER.test(text));
    if (numbers.length <= present.length / 2) {
      return texts.map((text) => (MISSING.has(text.toLowerCase()) ? null : text));
    }
    return texts.map((text) => (IS_NUMBER.test(text) ? numberOf(text) : null));
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
  }

  function sortBy(table, rows, column, direction) {
    const sign = direction === "descending" ? -1 : 1;
    const keys = keysOf(rows, column);
    const keyed = rows.map((row, number) => ({ row, key: keys[number] }));
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
