"""Tests of the charts of a comparison, and of which of them a table's page shows."""

import math

import pytest
from table_cells import CONTENT, cells, run, table

from fsseg.experiments.definition.columns import columns_of
from fsseg.experiments.page.charts import chart_pictures, shown_columns
from fsseg.experiments.page.tables import PageTables
from fsseg.experiments.results import rows_of
from fsseg.reporting.charts import Point, cost_figure, lines_figure, pareto_front, strip_figure

_PNG = b"\x89PNG"


def test_the_front_has_what_none_beats_at_lower_or_equal_cost() -> None:
    points = {"dear": (9.0, 0.8), "cheap": (1.0, 0.7), "worse": (2.0, 0.7), "twin": (1.0, 0.6), "middle": (3.0, 0.75)}

    assert pareto_front(points) == ["cheap", "middle", "dear"]


def test_charts_take_missing_values_and_a_single_method() -> None:
    point = Point(0.5)  # no interval
    assert lines_figure({"known": {"full": {1: point, 5: Point(0.6, 0.5, 0.7)}}}, "shots", "DSC", []).startswith(_PNG)
    assert cost_figure({"seconds": {"full": (3.0, 0.5)}}, "DSC").startswith(_PNG)
    assert strip_figure({"known": {"full": [0.5, math.nan], "lora": [math.nan]}}, "DSC").startswith(_PNG)


def test_charts_show_means_where_there_are_many_columns() -> None:
    names = ["a", "b", "c", "mean of known", "d", "e", "mean of novel"]

    assert shown_columns(names) == ["mean of known", "mean of novel"]
    assert shown_columns(names[:3]) == ["a", "b", "c"]


@pytest.mark.parametrize(("shots", "pictures"), [([1, 2], 4), ([1], 3)])  # lines over shots; two of costs; a strip
def test_the_page_has_the_charts_that_its_axes_allow(shots: list[int], pictures: int) -> None:
    grid = cells(axes={**CONTENT["axes"], "shots": shots})
    columns = {"ours": columns_of(table(), known=["liver"])}
    runs = {index: run(cell, 0.8, 0.4) for index, cell in enumerate(grid)}
    tables = PageTables(columns, rows_of(grid, runs, columns, ["full"]), ["full"])

    assert len(chart_pictures(tables)) == pictures
    assert chart_pictures(PageTables(columns, rows_of(grid, {}, columns, ["full"]), ["full"])) == []
