"""Tables, pictures and the HTML report."""

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import SimpleITK
from matplotlib.colors import to_rgb

from fsseg.reporting.curves import curves_figure
from fsseg.reporting.html import Picture, Section, Table, report_html, write_report
from fsseg.reporting.overlays import comparison_figure, overlay_figure
from fsseg.reporting.slices import PALETTE, shown_slices
from fsseg.reporting.tables import count, html_table, markdown_table, mean_sd, seconds, text_table

HEADER = ["method", "DSC", "parameters"]
ROWS = [["LoRA", "0.83 ± 0.04", "1,234,567"], ["2D | <b>", "–", "12"]]

SHAPE_ZYX = (20, 24, 28)
SPACING_ZYX_MM = (3.0, 2.0, 1.5)
WINDOW_HU = (-160.0, 240.0)


def rgb_of(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]


def block(start_zyx: tuple[int, int, int], size: int = 5) -> np.ndarray:
    mask = np.zeros(SHAPE_ZYX, dtype=bool)
    mask[tuple(slice(start, start + size) for start in start_zyx)] = True
    return mask


def empty() -> np.ndarray:
    return np.zeros(SHAPE_ZYX, dtype=bool)


def overlay(reference: dict[str, np.ndarray], prediction: dict[str, np.ndarray]) -> np.ndarray:
    image = np.zeros(SHAPE_ZYX, dtype=np.int16)
    structures = list(dict.fromkeys([*reference, *prediction]))
    return rgb_of(overlay_figure(image, reference, prediction, SPACING_ZYX_MM, structures, WINDOW_HU, "case"))


def panels_of(picture: np.ndarray) -> list[np.ndarray]:
    """Cut the CT panels, which are not white, out of an overlay; left to right."""
    picture = picture[:-60]  # without the legend
    dark_columns = (picture.min(axis=2) < 0.9).mean(axis=0) > 0.3
    edges = np.flatnonzero(np.diff(np.concatenate([[False], dark_columns, [False]]).astype(int)))
    panels = [picture[:, start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return [panel[(panel.min(axis=2) < 0.9).mean(axis=1) > 0.9] for panel in panels]


def centre_of_colour(panel: np.ndarray) -> tuple[float, float]:
    """Return where the coloured pixels lie, as fractions from the top and from the left."""
    rows, columns = np.nonzero(panel.max(axis=2) - panel.min(axis=2) > 0.2)
    return rows.mean() / panel.shape[0], columns.mean() / panel.shape[1]


def test_text_table() -> None:
    assert text_table(HEADER, ROWS) == (
        "method            DSC  parameters\n"
        "────────  ───────────  ──────────\n"
        "LoRA      0.83 ± 0.04   1,234,567\n"
        "2D | <b>            –          12"
    )
    assert text_table(["a", "b"], []) == "a  b\n─  ─"


def test_markdown_table() -> None:
    assert markdown_table(HEADER, ROWS) == (
        "| method | DSC | parameters |\n"
        "| --- | ---: | ---: |\n"
        "| LoRA | 0.83 ± 0.04 | 1,234,567 |\n"
        "| 2D \\| <b> | – | 12 |"
    )


def test_html_table() -> None:
    assert html_table(["name", "n"], [["<b> & c", "3 s"]]) == (
        '<table>\n<thead>\n<tr><th class="name">name</th><th class="number">n</th></tr>\n</thead>\n<tbody>\n'
        '<tr><td class="name">&lt;b&gt; &amp; c</td><td class="number">3 s</td></tr>\n</tbody>\n</table>'
    )


def test_the_column_that_tells_rows_apart_is_named() -> None:
    rows = [["1", "base", "LoRA", "0.7"], ["1", "base", "full", "0.6"]]
    assert 'th class="name">method<' in html_table(["shots", "base", "method", "DSC"], rows)
    assert "name" not in html_table(["shots", "DSC"], [["1", "0.7"]])


@pytest.mark.parametrize("cell", ["-0.1", "[0.80, 0.85]", "83.1 %", "1e-3", "3 min 12 s", "<0.01", "5/7"])
def test_numbers_are_aligned_right(cell: str) -> None:
    assert "---:" in markdown_table(["x"], [[cell], ["nan"]])


@pytest.mark.parametrize("cell", ["2D U-Net", "3d_fullres", "liver", "–"])
def test_names_are_aligned_left(cell: str) -> None:
    assert "---:" not in markdown_table(["x"], [[cell]])


def test_rows_must_fit_the_header() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the header has 3"):
        text_table(HEADER, [["LoRA"]])


def test_formats() -> None:
    nan = float("nan")
    assert mean_sd(0.8312, 0.0391) == "0.83 ± 0.04"
    assert mean_sd(4.26, 1.11, decimals=1) == "4.3 ± 1.1"
    assert (mean_sd(nan, nan), mean_sd(0.5, nan), seconds(nan)) == ("–", "0.50", "–")
    assert count(1234567) == "1,234,567"
    assert [seconds(s) for s in (4.21, 48, 59.7, 192, 3599.8, 7502)] == [
        *("4.2 s", "48 s", "1 min 0 s", "3 min 12 s", "1 h 0 min", "2 h 5 min")
    ]


def test_simpleitk_ras_arrays_grow_towards_right_anterior_superior() -> None:
    image = SimpleITK.DICOMOrient(SimpleITK.Image([4, 5, 6], SimpleITK.sitkInt16), "RAS")
    origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    far = np.array(image.TransformIndexToPhysicalPoint((1, 1, 1)))
    # Physical coordinates are LPS: right and anterior are negative, superior is positive.
    np.testing.assert_array_equal(far - origin, [-1, -1, 1])


@pytest.mark.parametrize("drawn_as", ["reference", "prediction"])
def test_right_anterior_superior_marker_is_top_left(drawn_as: str) -> None:
    marker = {"a": block((15, 19, 23))}
    panels = panels_of(overlay(marker, {}) if drawn_as == "reference" else overlay({}, marker))
    assert len(panels) == 3
    for panel in panels:
        top, left = centre_of_colour(panel)
        assert top < 0.4
        assert left < 0.4


@pytest.mark.parametrize(
    ("start_zyx", "axial", "coronal", "sagittal"),
    [
        ((15, 0, 0), "bottom right", "top right", "top right"),  # superior, posterior, left
        ((0, 19, 0), "top right", "bottom right", "bottom left"),  # inferior, anterior, left
        ((0, 0, 23), "bottom left", "bottom left", "bottom right"),  # inferior, posterior, right
    ],
)
def test_each_axis_is_shown_on_its_own_side(
    start_zyx: tuple[int, int, int], axial: str, coronal: str, sagittal: str
) -> None:
    panels = panels_of(overlay({"a": block(start_zyx)}, {"a": block(start_zyx)}))
    for panel, expected in zip(panels, (axial, coronal, sagittal), strict=True):
        top, left = centre_of_colour(panel)
        assert f"{'top' if top < 0.5 else 'bottom'} {'left' if left < 0.5 else 'right'}" == expected


def test_panels_have_the_proportions_of_the_body() -> None:
    panels = panels_of(overlay({"a": block((8, 10, 10))}, {}))
    depth_mm, height_mm, width_mm = (n * mm for n, mm in zip(SHAPE_ZYX, SPACING_ZYX_MM, strict=True))
    expected = [height_mm / width_mm, depth_mm / width_mm, depth_mm / height_mm]
    assert [panel.shape[0] / panel.shape[1] for panel in panels] == pytest.approx(expected, rel=0.03)


def test_fill_blends_the_colour_of_the_structure_and_the_window() -> None:
    masks = {"a": block((8, 10, 2)), "b": block((8, 10, 20))}
    axial = panels_of(overlay(masks, masks))[0]
    grey = 160 / 400
    for name, colour in zip(masks, PALETTE, strict=False):
        expected = 0.45 * np.array(to_rgb(colour)) + 0.55 * grey
        row = int((1 - 12.5 / SHAPE_ZYX[1]) * axial.shape[0])
        column = int((1 - (4.5 if name == "a" else 22.5) / SHAPE_ZYX[2]) * axial.shape[1])
        np.testing.assert_allclose(axial[row, column], expected, atol=0.02)


def test_slices_weigh_structures_equally() -> None:
    large, small = empty(), empty()
    large[2:5] = True
    large[4:8, 4:, :] = True
    small[7, 3, 5:7] = True
    assert shown_slices({"large": large, "small": small, "none": empty()}) == (7, 3, 5)
    assert shown_slices({"none": empty()}) is None
    assert shown_slices({}) is None


def test_view_is_cropped_to_the_masks() -> None:
    image = np.zeros((20, 60, 120), dtype=np.int16)
    mask = np.zeros(image.shape, dtype=bool)
    mask[5:9, 28:32, 56:64] = True
    axial = panels_of(rgb_of(overlay_figure(image, {"a": mask}, {}, (5.0, 5.0, 5.0), ["a"], WINDOW_HU, "case")))[0]
    assert axial.shape[0] / axial.shape[1] == pytest.approx((4 + 16) / (8 + 16), rel=0.03)


def test_empty_and_missing_masks() -> None:
    for reference, prediction in (({"a": empty()}, {"a": block((3, 3, 3))}), ({"a": block((3, 3, 3))}, {})):
        assert all(np.isfinite(centre_of_colour(panel)).all() for panel in panels_of(overlay(reference, prediction)))
    assert len(panels_of(overlay({"a": empty()}, {"a": empty()}))) == 3


def test_masks_must_fit_the_image() -> None:
    image = np.zeros(SHAPE_ZYX, dtype=np.int16)
    arguments = (SPACING_ZYX_MM, ["a"], WINDOW_HU, "case")
    with pytest.raises(ValueError, match=r"masks must be bool \(20, 24, 28\)"):
        overlay_figure(image, {"a": np.zeros((2, 2, 2), dtype=bool)}, {}, *arguments)
    with pytest.raises(ValueError, match="got uint8"):
        overlay_figure(image, {}, {"a": np.zeros(SHAPE_ZYX, dtype=np.uint8)}, *arguments)
    with pytest.raises(ValueError, match="low < high"):
        overlay_figure(image, {}, {}, SPACING_ZYX_MM, [], (40.0, 40.0), "case")


def test_comparison_has_a_column_per_method() -> None:
    image = np.zeros(SHAPE_ZYX, dtype=np.int16)
    reference = {"a": block((8, 10, 2)), "b": empty()}
    predictions = {
        "LoRA": {"a": block((8, 9, 3))},
        "$none_": {},
        "BitFit": {"a": empty(), "b": block((1, 1, 1))},
    }
    png = comparison_figure(image, reference, predictions, SPACING_ZYX_MM, WINDOW_HU, "case")
    assert png == comparison_figure(image, reference, predictions, SPACING_ZYX_MM, WINDOW_HU, "case")
    columns = (rgb_of(png)[:400].min(axis=2) < 0.9).mean(axis=0) > 0.5
    assert np.count_nonzero(np.diff(columns.astype(int)) == 1) == 4


def test_curves() -> None:
    steps = list(range(200))
    png = curves_figure(
        {"loss": (steps, [1 / (1 + s) for s in steps]), "one": ([3], [0.5]), "none": ([], [])},
        "$title",
        "loss",
    )
    assert rgb_of(png).shape[2] == 3
    assert rgb_of(curves_figure({}, "nothing yet", "loss")).shape[2] == 3
    with pytest.raises(ValueError, match="1 steps and 2 values"):
        curves_figure({"loss": ([1], [1.0, 2.0])}, "title", "loss")


def test_report_escapes_text_and_embeds_pictures(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script> & \"quoted\" $title"
    png = curves_figure({"loss": ([0, 1], [1.0, 0.5])}, "title", "loss")
    section = Section(bad, [bad], [Table([bad], [[bad]], bad)], [Picture(png, bad, bad)])
    path = tmp_path / "report.html"
    write_report(path, bad, [section, Section("empty")])
    page = path.read_text(encoding="utf-8")
    assert page == report_html(bad, [section, Section("empty")])
    assert "<script>alert" not in page
    assert page.count("<script>") == report_html("", [Section("", tables=[Table(["a"], [])])]).count("<script>") == 1
    assert "<script" not in report_html("", [Section("no table", ["text"])])
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;quoted&quot; $title") == 9
    assert not re.search(r"https?://|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert [base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in sources] == [png]
    assert list(tmp_path.iterdir()) == [path]
