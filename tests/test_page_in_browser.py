"""A report in headless Chromium, from a file: its tables are sorted and its viewer is scrolled."""

from pathlib import Path

import pytest
from chromium import found_by, needs_chromium

from fsseg.reporting.html import Section, Table, report_html

pytestmark = [pytest.mark.full, needs_chromium]

ROWS = [
    ["LoRA 10", "0.754 ± 0.011", "+0.013 [-0.008, +0.034]", "1,200", "3 min 12 s"],
    ["LoRA 2", "0.81", "-0.020 [-0.030, -0.010]", "900", "48 s"],
    ["full", "–", "–", "30,000", "1 h 5 min"],
    ["BitFit", "0.096 ± 0.2", "−0.3 [-0.5, -0.1]", "7", "2 h 0 min"],
]
UP = {
    "method": ["BitFit", "full", "LoRA 2", "LoRA 10"],
    "DSC": ["BitFit", "LoRA 10", "LoRA 2", "full"],
    "difference": ["BitFit", "LoRA 2", "LoRA 10", "full"],
    "parameters": ["BitFit", "LoRA 2", "LoRA 10", "full"],
    "time": ["LoRA 2", "LoRA 10", "full", "BitFit"],
}
SORT = """
const headers = [...document.querySelectorAll("th")];
const names = () => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent);
const sorts = () => headers.map((header) => header.getAttribute("aria-sort"));
return headers.map((header) => {
  const button = header.querySelector("button");
  button.focus();
  const states = [0, 1, 2].map(() => { button.click(); return [names(), sorts()]; });
  return [header.textContent, document.activeElement === button, states];
});
"""


def test_a_click_sorts_a_table_by_the_first_number_of_its_cells(tmp_path: Path) -> None:
    header = list(UP)
    found = found_by(SORT, report_html("Sorted", [Section("DSC", tables=[Table(header, ROWS)])]), tmp_path)
    assert [name for name, _, _ in found] == header
    original = [row[0] for row in ROWS]
    for number, (name, focused, states) in enumerate(found):
        up, down, back = (names for names, _ in states)
        missing = [row[0] for row in ROWS if row[number] == "–"]
        assert (up, back) == (UP[name], original)
        assert down == [*reversed([each for each in UP[name] if each not in missing]), *missing]
        assert [sorts[number] for _, sorts in states] == ["ascending", "descending", "none"]
        assert all(sorts.count("none") >= len(header) - 1 for _, sorts in states)
        assert focused
