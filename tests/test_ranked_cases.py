"""The worst, median and best case of a structure, and the picture of them."""

import io
import math

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fsseg.reporting.overlays import DrawnCase
from fsseg.reporting.panels import write_texts
from fsseg.reporting.ranked_cases import ranked_cases, ranked_picture
from fsseg.reporting.slices import PALETTE

NAN = math.nan


@pytest.mark.parametrize(
    ("dsc_of", "expected"),
    [
        ({"d": 0.9, "b": 0.2, "c": 0.5, "a": 0.4}, "worst b, median a, best d"),  # the lower of the middle two
        ({"c": 0.5, "a": 0.5, "b": 0.5}, "worst a, median b, best c"),
        ({"a": 0.0, "b": NAN, "c": 0.3}, "worst a, best c"),
        ({"a": 0.7, "b": NAN}, "only a"),
        ({"b": NAN}, ""),
    ],
)
def test_ranks(dsc_of: dict[str, float], expected: str) -> None:
    ranked = ranked_cases(dsc_of)
    assert ", ".join(f"{each.rank} {each.case}" for each in ranked) == expected
    assert all(each.dsc == dsc_of[each.case] for each in ranked)


def drawn_case(name: str) -> DrawnCase:
    """Return a case whose size and grey level differ from the others'."""
    number = "abcd".index(name)
    shape = (12 + 4 * number, 20, 24)
    mask = np.zeros(shape, dtype=bool)
    mask[3:8, 6:12, 6:14] = True
    return DrawnCase(np.full(shape, 50.0 * number), {"b": mask, "a": ~mask}, {"b": mask}, (3, 2, 2), (0, 255))


def test_a_picture_has_a_row_for_each_case_and_one_structure_in_its_colour_of_the_report() -> None:
    asked: list[str] = []

    def load(name: str) -> DrawnCase:
        asked.append(name)
        return drawn_case(name)

    dsc_of = {"a": 0.2, "b": NAN, "c": 0.6, "d": 0.6}
    picture = ranked_picture("b", ["a", "b"], dsc_of, load, "LoRA")
    assert picture is not None
    assert asked == ["a", "c", "d"]
    assert picture.caption == (
        "b, LoRA: worst a (0.200), median c (0.600), best d (0.600), of 3 cases by DSC; 1 more, where reference and"
        " prediction are empty, have none. Cases with the same DSC are ordered by name."
    )
    pixels = matplotlib.image.imread(io.BytesIO(picture.png), format="png")[..., :3]
    for grey in (0, 100, 150):
        assert (np.abs(pixels - grey / 255).max(axis=2) < 0.01).sum() > 1000
        filled = 0.45 * np.array(to_rgb(PALETTE[1])) + 0.55 * grey / 255
        assert (np.abs(pixels - filled).max(axis=2) < 0.02).sum() > 500
    assert not (np.abs(pixels - to_rgb(PALETTE[0])).max(axis=2) < 0.02).any(), "the other structure is not drawn"
    assert ranked_picture("b", ["a", "b"], {"a": NAN}, load, "LoRA") is None


def test_a_legend_is_read_row_by_row() -> None:
    figure = Figure(figsize=(4, 3), layout="compressed")
    write_texts(figure, {f"structure_{number}": "0.5" for number in range(5)}, "title")
    figure.draw_without_rendering()
    places = {text.get_text(): text.get_window_extent() for text in figure.legends[0].get_texts()}
    read = sorted(places, key=lambda name: (-round(places[name].y1 / 5), places[name].x0))
    assert read == [*(f"structure_{number}" for number in range(5)), "reference: outline", "prediction: fill"]
    assert len({round(place.y1 / 5) for place in places.values()}) > 1
