"""A report in headless Chromium, from a file: its tables are sorted and its viewer is scrolled."""

from pathlib import Path

import numpy as np
import pytest
from chromium import found_by, needs_chromium
from matplotlib.colors import to_rgb

from fsseg.reporting.html import Section, Table, report_html
from fsseg.reporting.slices import PALETTE
from fsseg.reporting.viewer import Viewer, ViewerCase, viewer_case

pytestmark = [pytest.mark.full, needs_chromium]

ROWS = [
    ["LoRA 10", "0.754 ± 0.011", "+0.013 [-0.008, +0.034]", "1,200", "3 min 12 s"],
    ["LoRA 2", "0.81", "-0.020 [-0.030, -0.010]", "900", "48 s"],
    ["full", "–", "–", "30,000", "1 h 5 min"],
    ["BitFit", "0.096 ± 0.2", "−0.3 [-0.5, -0.1]", "7", "2 h 0 min"],
    ["SEA 3d", "failed", "(+0.5)", "<8", "0.4 s"],
]
UP = {
    "method": ["BitFit", "full", "LoRA 2", "LoRA 10", "SEA 3d"],
    "DSC": ["BitFit", "LoRA 10", "LoRA 2", "full", "SEA 3d"],
    "difference": ["BitFit", "LoRA 2", "LoRA 10", "SEA 3d", "full"],
    "parameters": ["BitFit", "SEA 3d", "LoRA 2", "LoRA 10", "full"],
    "time": ["SEA 3d", "LoRA 2", "LoRA 10", "full", "BitFit"],
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
        missing = [row[0] for row in ROWS if row[number] in ("–", "failed")]
        assert (up, back) == (UP[name], original)
        assert down == [*reversed([each for each in UP[name] if each not in missing]), *missing]
        assert [sorts[number] for _, sorts in states] == ["ascending", "descending", "none"]
        assert all(sorts.count("none") >= len(header) - 1 for _, sorts in states)
        assert focused


SHAPE_ZYX = (12, 16, 20)
MARKER = (slice(8, 12), slice(12, 16), slice(15, 20))  # superior, anterior and on the right
# What a reader does, and the colours seen after each: of NiiVue's canvas, or of the canvas above it with the outline.
SCROLL = """
const figure = document.querySelector(".viewer");
await figure.ready;
const part = (name) => figure.querySelector(`[data-part=${name}]`);
const screen = part("volume").parentElement;
function seen(canvas, left, top) {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const context = copy.getContext("2d");
  context.drawImage(canvas, 0, 0);
  return [...context.getImageData(left * copy.width, top * copy.height, 1, 1).data];
}
async function act(name, value, event) {
  part(name).value = value;
  part(name).dispatchEvent(new Event(event));
  await new Promise((resolve) => setTimeout(resolve, 300));
  part("slice").dispatchEvent(new Event("input"));  // what WebGL drew is there until the end of this turn
  return seen(part("volume"), 0.1, 0.15);
}
function slide(slice) {
  part("slice").value = slice;
  part("slice").dispatchEvent(new Event("input"));
  return [part("place").value, seen(part("volume"), 0.6, 0.6)];
}
const found = { notice: figure.querySelector(".notice") !== null, start: part("place").value };
found.slices = [0, 5, 11].map(slide);
const turn = (deltaY) => {
  const event = new WheelEvent("wheel", { deltaY, cancelable: true });
  screen.dispatchEvent(event);
  return [part("place").value, event.defaultPrevented];
};
slide(10);
found.wheel = [turn(1), turn(1), turn(-1)];
slide(9);
found.corners = [];
for (const view of ["coronal", "sagittal", "axial"]) {
  const filled = await act("view", view, "change");
  part("slice").value = part("slice").max - 1;
  part("slice").dispatchEvent(new Event("input"));
  found.corners.push([filled, seen(part("volume"), 0.9, 0.85), seen(part("outline"), 0.25, 0.125)]);
}
found.opaque = await act("opacity", 1, "input");
found.without = await act("fill", part("fill").checked = false, "change");
part("reference").checked = false;
part("fill").checked = true;
found.other = await act("prediction", 1, "change");
await act("reference", "on", "change");
found.bare = seen(part("outline"), 0.25, 0.125);
found.empty = await act("case", 1, "change");
found.place = part("place").value;
found.overflow = document.documentElement.scrollWidth > innerWidth;
return found;
"""


def ramp(name: str, masked: bool) -> ViewerCase:
    """Return a case whose grey level is ten times the axial slice, with a structure in one corner."""
    image = np.broadcast_to(np.arange(12.0)[:, None, None] * 10, SHAPE_ZYX)
    mask = np.zeros(SHAPE_ZYX, dtype=bool)
    mask[MARKER] = masked
    predictions = {"first": {"a": mask}, "second": {"b": mask}}
    return viewer_case(name, image, {"a": mask}, predictions, (2, 1, 1), ["a", "b"], (0, 255))


def test_the_viewer_scrolls_its_slices(tmp_path: Path) -> None:
    viewer = Viewer([ramp("with", True), ramp("without", False)], ["a", "b"])
    found = found_by(SCROLL, report_html("Viewer", [Section("Cases", viewers=[viewer])]), tmp_path)
    assert not found["notice"]
    assert found["start"] == "axial, slice 8"  # the first that shows most of the structure
    for slice_, (place, colour) in zip((0, 5, 11), found["slices"], strict=True):
        assert (place, colour) == (f"axial, slice {slice_}", [10 * slice_] * 3 + [255])
    # At the last slice the wheel is left to the page.
    assert found["wheel"] == [["axial, slice 11", True], ["axial, slice 11", False], ["axial, slice 10", True]]
    a, b = (255 * np.array(to_rgb(colour)) for colour in PALETTE[:2])
    for filled, opposite, outline in found["corners"]:  # superior, anterior and right are at the top and on the left
        assert filled[0] > filled[2] + 60
        assert opposite[0] == opposite[1] == opposite[2]
        assert outline[3] > 200
    np.testing.assert_allclose(found["corners"][2][0][:3], 0.45 * a + 0.55 * 90, atol=2)  # axial, slice 9
    np.testing.assert_allclose(found["opaque"][:3], a, atol=2)
    np.testing.assert_allclose(found["other"][:3], b, atol=2)
    assert found["without"] == [100, 100, 100, 255]
    assert found["bare"][3] == 0
    assert (found["place"], found["empty"]) == ("axial, slice 6", [60, 60, 60, 255])
    assert not found["overflow"]


def test_without_webgl_one_sentence_is_in_the_place_of_the_viewer(tmp_path: Path) -> None:
    page = report_html("Viewer", [Section("Cases", viewers=[Viewer([ramp("case", True)], ["a", "b"])])])
    script = """
      const figure = document.querySelector(".viewer");
      await figure.ready;
      return [figure.innerText.split("\\n")[0], figure.querySelector(".controls").checkVisibility()];
    """
    notice, visible = found_by(script, page, tmp_path, webgl=False)
    assert "needs scripts and WebGL 2" in notice
    assert not visible
