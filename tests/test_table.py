"""fsseg table: cells of a table file, which runs they share, and the page that shows what is finished."""

import itertools
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from table_cells import CONTENT, SITE, cells, run, table

from fsseg.cli.main import main
from fsseg.config.csv_file import read_csv
from fsseg.config.errors import UsageError
from fsseg.config.json_files import write_json
from fsseg.evaluation.aggregation import CaseRow
from fsseg.experiments import run_cell
from fsseg.experiments.bases import Preparation
from fsseg.experiments.definition.columns import columns_of, mean_column
from fsseg.experiments.definition.grid import BaseChoice, Cell, cells_of
from fsseg.experiments.definition.table_file import read_table
from fsseg.experiments.page.page import Page
from fsseg.experiments.page.tables import PageTables
from fsseg.experiments.results import NATIVE, Finished, rows_of
from fsseg.experiments.workspace import RunFolder, Workspace
from fsseg.reporting.tables import Bold


def test_every_combination_is_a_cell_with_its_settings() -> None:
    grid = cells()

    assert len(grid) == 2 * 2 * 2
    assert grid[0].labels == {"method": "full", "shots": "1", "seed": "0"}
    last = grid[-1]
    assert (last.settings.method, last.settings.decoder, last.settings.method_options) == ("lora", "tuned", {"rank": 3})
    assert (last.settings.shots, last.settings.seed, last.settings.recipe.max_steps) == (2, 1, 7)
    assert last.base.name == "ours"


def test_any_setting_is_an_axis() -> None:
    axes = {
        "method": ["lora"],
        "options.rank": [2, 4],
        "recipe.loss": ["bce_dice", "dice"],
        "base": ["ours", "public"],
        "support": [{"label": "old scanner", "cases": ["c1", "c2", "c3"]}],
    }
    grid = cells(axes=axes, baselines=())

    assert len(grid) == 8
    assert {cell.settings.method_options["rank"] for cell in grid} == {2, 4}
    assert {cell.settings.recipe.loss for cell in grid} == {"bce_dice", "dice"}
    assert {cell.base.name for cell in grid} == {"ours", "public"}
    assert (grid[0].cases, grid[0].settings.shots) == (("c1", "c2", "c3"), 3)
    assert grid[0].labels["support"] == "old scanner"


def test_a_published_recipe_counts_its_steps_by_the_shots_of_the_cell() -> None:
    grid = cells(settings={"recipe": "fseft"}, axes={"method": ["linear_probe"], "shots": [1, 5]}, baselines=())

    assert [cell.settings.recipe.max_steps for cell in grid] == [199, 5 * 199]


def test_every_target_is_a_run_of_its_own_and_shares_the_row() -> None:
    other = {**SITE, "structures": ["spleen"], "settings": {"decoder": "tuned"}, "prefix": "X_"}
    other["support"] = {0: ["a", "b", "c"], 1: ["b", "b", "a"]}
    targets = {"site": SITE, "spleen": other}
    axes = {"method": ["lora"], "shots": [2], "seed": [0, 1]}
    grid = cells(targets=targets, axes=axes, baselines=())

    assert [(cell.target, cell.cases) for cell in grid] == [
        ("site", None),
        ("spleen", ("X_a", "X_b")),
        ("site", None),
        ("spleen", ("X_b",)),  # a case named twice is one shot
    ]
    assert len({cell.row for cell in grid}) == 1
    assert [cell.settings.decoder for cell in grid[:2]] == [None, "tuned"]
    assert len(cells(targets=targets, axes=axes, baselines=(), columns={"Spl": ["spleen"]})) == 2
    with pytest.raises(UsageError, match="4 shots, but the support of seed 0 names 3 cases"):
        cells(targets=targets, axes={**axes, "shots": [4]}, baselines=())


def test_shots_may_be_a_share_of_the_pool() -> None:
    grid = cells(axes={"method": ["full"], "shots": [1, "34%", "all"]}, baselines=())

    assert [cell.settings.shots for cell in grid] == [1, 1, 3]
    for shots, message in (("many", "got 'many'"), ("0%", "got '0%'")):
        with pytest.raises(UsageError, match=message):
            cells(axes={"method": ["full"], "shots": [shots]}, baselines=())
    with pytest.raises(UsageError, match="needs a pool of a known number"):
        cells(targets={"site": {**SITE, "pool": None}}, axes={"method": ["full"], "shots": ["all"]}, baselines=())


def test_the_base_as_it_is_has_no_seeds_and_no_shots() -> None:
    grid = cells(axes={**CONTENT["axes"], "method": ["full", "zero_shot"]})
    zero = [cell for cell in grid if cell.is_zero_shot]

    assert [cell.labels for cell in zero] == [{"method": "zero_shot", "shots": "0", "seed": "0"}]
    assert len(grid) == 4 + 1


def test_an_axis_may_change_how_a_base_is_pretrained(tmp_path: Path) -> None:
    axes = {"method": ["zero_shot"], "pretrain.unannotated": ["masked", "background"], "pretrain.fold": [0, 1]}
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table(axes=axes, baselines=())
    grid = cells_of(mine, "")

    assert len({place.base(mine, cell.base) for cell in grid}) == 4
    assert len({cell.row for cell in grid}) == 2  # folds are averaged
    wrong = {**axes, "pretrain.lss": ["dice"]}
    with pytest.raises(UsageError, match="did you mean 'loss'"):
        cells(axes=wrong, baselines=())
    with pytest.raises(UsageError, match="it is imported"):
        cells(axes={**axes, "base": ["public"]}, baselines=())


def test_a_table_may_be_like_another(tmp_path: Path) -> None:
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
    small = {"like": "whole.yaml", "title": "Small", "axes": {"method": ["full"]}, "baselines": []}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small), encoding="utf-8")
    read = read_table(tmp_path / "small.yaml")

    assert (read.title, read.structures) == ("Small", ("liver", "larynx"))
    assert len(cells_of(read, "")) == 1
    (tmp_path / "whole.yaml").write_text("like: small.yaml", encoding="utf-8")
    with pytest.raises(UsageError, match="Shorten the chain"):
        read_table(tmp_path / "small.yaml")


def test_a_table_of_one_method_and_of_changed_bases_has_a_page(tmp_path: Path) -> None:
    mine = table(
        axes={"pretrain.dataset": ["sources", "target"], "seed": [0]}, settings={"method": "lora"}, baselines=()
    )
    grid = cells_of(mine, "")
    known = {cell.base.title: names for cell, names in zip(grid, (["liver"], []), strict=True)}
    columns = {title: columns_of(mine, names) for title, names in known.items()}
    Page(mine, "", columns, rows_of(grid, {0: run(grid[0], 0.8, 0.4)}, columns, ()), known).write(tmp_path)

    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert [cell.labels["method"] for cell in grid] == ["lora", "lora"]
    assert "The base ours, dataset sources knows liver" in text
    assert "The base ours, dataset target knows none" in text


def test_combinations_can_be_left_out() -> None:
    assert len(cells(leave_out=[{"method": "full", "shots": "2"}])) == 6


def test_all_errors_of_a_table_come_at_once() -> None:
    axes = {"method": ["fulll", {"label": "l", "method": "lora", "options.rnk": 3}], "shot": [1], "base": ["theirs"]}
    with pytest.raises(UsageError) as error:
        cells(axes=axes, leave_out=[{"method": "x"}])

    for part in ("did you mean 'shots'", "Did you mean 'full'", "'rnk'", "'theirs'", "baselines names 'full'", "'x'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"method": []}}, "at least 1"),
        ({"targets": {"site": {**SITE, "dataset": "targt"}}}, "'targt'"),
        ({"bases": {"none": {}}}, "either pretrained or imported"),
        (
            {"targets": {"site": {**SITE, "test": {"first": 1, "last": 1}}}},
            "first, last, names and held_out",
        ),
        ({"targets": {"site": {**SITE, "test": {"names": ["a"]}, "support": {0: ["b", "a"]}}}}, "support of seed 0: a"),
        ({"columns": {"Liv": ["livr"]}}, "columns.Liv names 'livr'"),
        ({"titel": "x"}, "did you mean 'title'"),
    ],
)
def test_a_wrong_table_file_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, **changes}), encoding="utf-8")

    assert main(["table", str(file), "--root", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_are_known_by_what_decides_them(tmp_path: Path) -> None:
    place = Workspace(tmp_path, tmp_path, tmp_path)
    ours, other = table(), table(title="Another", axes={"method": ["full"], "shots": [2], "seed": [1, 2]})
    of_ours = {place.run(ours, cell).path for cell in cells_of(ours, "")}
    of_other = {place.run(other, cell).path for cell in cells_of(other, "")}
    changed = table(scoring={"mirroring": False})

    assert len(of_ours) == 8
    assert len(of_other & of_ours) == 1  # full, 2 shots, seed 1
    assert not of_ours & {place.run(changed, cell).path for cell in cells_of(changed, "")}


def page_of(grid: list[Cell], runs: dict[int, Finished | str]) -> Page:
    columns = {"ours": columns_of(table(), known=["liver"])}
    return Page(table(), "fsseg table a", columns, rows_of(grid, runs, columns, ["full"]))


def test_the_page_shows_means_over_seeds_and_paired_differences(tmp_path: Path) -> None:
    grid = cells(axes={**CONTENT["axes"], "shots": [1]})
    scores = [(0.80, 0.40), (0.84, 0.44), (0.90, 0.40), (0.90, 0.50)]
    page = page_of(grid, {index: run(cell, *scores[index]) for index, cell in enumerate(grid)})

    full, lora = page.rows
    assert full.numbers["liver"].dsc.mean == pytest.approx(0.825)
    assert full.numbers["liver"].sd_over_seeds == pytest.approx(0.04 / math.sqrt(2))
    assert lora.numbers["larynx"].minus["full"].dsc.mean == pytest.approx(0.03)
    page.write(tmp_path)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| full | 0.825 ± 0.028 |" in text
    assert "4 of 4 runs are finished" in text
    assert len(read_csv(tmp_path / "per_case.csv")) == 4 * 4
    assert r"lora + decoder & 0.905 $\pm$ 0.000" in (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert "<table>" in (tmp_path / "table.html").read_text(encoding="utf-8")


def test_bold_is_only_what_is_ahead_of_every_baseline_by_more_than_chance() -> None:
    grid = cells(axes={"method": CONTENT["axes"]["method"], "seed": [0]})

    def rows_with(gain: float, cases: int) -> list[list[str]]:
        rows = [
            [CaseRow(f"t{i}", "liver", d, 0.5, 1.0, 1.0, 1.0, "ok") for i in range(cases)] for d in (0.7, 0.7 + gain)
        ]
        runs = {index: Finished(cell, {NATIVE: rows[index]}, {}) for index, cell in enumerate(grid)}
        columns = {"ours": [mean_column("liver", ["liver"])]}
        return PageTables(columns, rows_of(grid, runs, columns, ["full"]), ["full"]).scores().rows

    bold = [[isinstance(line[1], Bold) for line in rows_with(*given)] for given in ((0.1, 8), (0.1, 5), (-0.1, 8))]
    assert bold == [[False, True], [False, False], [False, False]]  # five cases never give less than .0625
    assert rows_with(0.1, 8)[1][1] == "0.800"


def test_named_columns_weigh_alike_whatever_they_hold() -> None:
    both = table(columns={"A": ["liver"], "B": ["liver", "larynx"]})

    assert [column.name for column in columns_of(both, known=[])] == ["A", "B", "mean"]
    assert columns_of(both, known=[])[-1].weights == {"liver": 0.75, "larynx": 0.25}


def test_a_column_may_be_the_mean_of_columns() -> None:
    both = table(columns={"A": ["liver"], "B": ["liver", "larynx"], "sets": ["A", "B"], "structures": ["liver"]})

    assert [column.name for column in columns_of(both, known=[])] == ["A", "B", "sets", "structures"]  # and no mean
    assert columns_of(both, known=[])[2].weights == {"liver": 0.75, "larynx": 0.25}
    with pytest.raises(ValueError, match=r"columns\.A names 'B'"):
        table(columns={"A": ["B"], "B": ["liver"]})


def test_test_cases_may_be_those_that_the_base_has_held_out(tmp_path: Path) -> None:
    site = {**SITE, "pool": None, "test": {"held_out": True}}
    target = table(targets={"site": site}).targets["site"]

    assert target.chosen(target.test, ["b", "a", "c"], ["c", "of another set", "a"]) == ("a", "c")
    with pytest.raises(UsageError, match="the test cases are held out, but base 'public' is imported"):
        cells(targets={"site": site}, axes={**CONTENT["axes"], "base": ["public"]})
    with pytest.raises(ValueError, match="are for the test"):
        table(targets={"site": {**SITE, "pool": {"held_out": True}}})
    place = Workspace(tmp_path, tmp_path, tmp_path)
    folds = table(targets={"site": site}, axes={"method": ["zero_shot"], "pretrain.fold": [0, 1]}, baselines=())
    assert len({place.run(folds, cell).path for cell in cells_of(folds, "")}) == 2
    assert len({cell.row for cell in cells_of(folds, "")}) == 1


def test_cells_of_a_paper_stand_beside_ours_and_doubts_are_said() -> None:
    paper = {
        "source": "A paper, table 1",
        "decimals": 1,
        "columns": ["liver", "larynx", "mean"],
        "rows": [
            {"labels": {"method": "full", "shots": "1"}, "cells": [81.0, 50.0, 70.0], "doubt": "misread"},
            {"labels": {"method": "full", "shots": "2"}, "cells": [82.0, None, 70.0]},
        ],
    }
    mine = table(papers=[paper], baselines=())
    grid = cells_of(mine, "")
    columns = {"ours": columns_of(mine, known=["liver"])}
    page = Page(mine, "", columns, rows_of(grid, {0: run(grid[0], 0.8, 0.4)}, columns, ()))
    section = page.sections()[1]
    lines = section.tables[0].rows

    assert lines[0] == ["full", "1", "ours", "80.5 [80.0, 81.0]", "40.5 [40.0, 41.0]", "–"]
    assert lines[1] == ["full", "1", "paper", "81.0", "50.0", "70.0 (mean of its cells 65.5)"]
    assert lines[2][3:] == ["-0.5 [-1.0, +0.0]", "-9.5 [-10.0, -9.0]", "–"]
    assert lines[4][3:] == ["82.0", "–", "70.0"]
    assert "2 of its 5 cells are ours, too." in section.paragraphs
    assert "Doubtful: method full, shots 1: misread" in section.paragraphs
    elsewhere = {"labels": {"method": "theirs"}, "cells": [80, None, None], "absent": "its code is not public"}
    with_absent = table(papers=[{**paper, "rows": [*paper["rows"], elsewhere]}], baselines=())
    texts = replace(page, table=with_absent).sections()[1].paragraphs
    assert "Not among ours: method theirs: its code is not public" in texts
    with pytest.raises(UsageError, match="papers names 'lora'"):
        cells(papers=[{**paper, "rows": [{"labels": {"method": "lora"}, "cells": [1, 2, 3]}]}])


def test_a_paper_is_compared_by_its_own_protocol_and_its_costs_stand_beside_ours() -> None:
    paper = {
        "source": "A paper, table 2",
        "protocol": "fseft",
        "columns": ["liver"],
        "rows": [{"labels": {"method": "full", "shots": "1"}, "cells": [81.0], "parameters": "62.1M", "minutes": "8"}],
    }
    mine = table(papers=[paper], scoring={"protocols": ["fseft"]}, baselines=())
    grid = cells_of(mine, "")
    ours = run(grid[0], 0.8, 0.4)
    ours = replace(ours, rows={**ours.rows, "fseft": run(grid[0], 0.7, 0.3).rows[NATIVE]})
    columns = {"ours": columns_of(mine, known=["liver"])}
    _, section, dsc, *_ = Page(mine, "", columns, rows_of(grid, {0: ours}, columns, ())).sections()
    scores, costs = section.tables

    assert scores.rows[0][3:] == ["70.50 [70.00, 71.00]"]
    assert dsc.tables[0].rows[0][2] == "0.805"
    assert costs.rows == [["full", "1", "12", "62.1M", "0.1", "8"]]
    assert any("protocol fseft" in text for text in section.paragraphs)
    with pytest.raises(
        ValidationError, match=r"papers\.protocol names 'fseft', but the protocols of scoring are native"
    ):
        table(papers=[paper])


def test_a_protocol_that_is_added_scores_what_is_there(tmp_path: Path) -> None:
    plain, scored = table(), table(scoring={"protocols": ["fseft"]})
    place, (cell, *_) = Workspace(tmp_path, tmp_path, tmp_path), cells_of(plain, "")
    before, after = place.run(plain, cell), place.run(scored, cell)
    before.path.mkdir(parents=True)
    before.metrics.write_text("", encoding="utf-8")

    assert before.path == after.path
    assert before.is_done
    assert not after.is_done
    after.other_metrics["fseft"].write_text("", encoding="utf-8")
    assert after.is_done


def test_the_spread_over_seeds_is_that_of_the_means_over_cases() -> None:
    grid = cells(axes={"method": ["full"], "seed": [0, 1]})
    columns = {"ours": columns_of(table(), known=["liver"])}
    runs = {index: run(cell, value, 0.4) for index, (cell, value) in enumerate(zip(grid, (0.6, 0.7), strict=True))}
    (both,), (one,) = (rows_of(grid, some, columns, ()) for some in (runs, {0: runs[0]}))

    assert both.numbers["liver"].sd_over_seeds == pytest.approx(0.1 / math.sqrt(2))  # sample sd
    assert math.isnan(one.numbers["liver"].sd_over_seeds)


def test_messages_on_the_page_are_in_its_words() -> None:
    words = {"/home/anna/data": "DATA", "Site_pt_1": "a case", "Site_pt_10": "a case"}
    grid = cells(axes={"method": ["full"], "seed": [0]})
    message = "/home/anna/data lacks Site_pt_10 and Site_pt_1, not Site_pt_12"
    columns = {"ours": columns_of(table(), known=["liver"])}
    names = {"Site_pt_12": "case_001"}
    page = Page(table(), "", columns, rows_of(grid, {0: message}, columns, ()), names=names, words=words)

    assert page.sections()[-1].paragraphs == ["method full: DATA lacks a case and a case, not case_001"]


def test_missing_and_failed_runs_are_shown_as_such(tmp_path: Path) -> None:
    grid = cells(axes={**CONTENT["axes"], "shots": [1]})
    page = page_of(grid, {0: run(grid[0], 0.8, 0.4), 2: "no space is left"})
    page.write(tmp_path)

    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| full | 0.805 | 0.405 | 1/2 |" in text
    assert "| lora + decoder | – | – | 0/2, 1 failed |" in text
    assert "no space is left" in text
    page_of(grid, {}).write(tmp_path)
    assert "0 of 4 runs are finished" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_cases_that_a_seed_cannot_score_are_left_out() -> None:
    grid = cells(axes={"method": ["full"], "seed": [0, 1]})
    first, second = (run(cell, 0.8, 0.4) for cell in grid)
    first.rows[NATIVE][0] = replace(first.rows[NATIVE][0], dsc=math.nan)
    (row,) = page_of(grid, {0: first, 1: second}).rows

    assert row.numbers["liver"].dsc.n == 2
    assert row.numbers["liver"].dsc.mean == pytest.approx((0.80 + 0.81) / 2)


def test_a_base_is_known_by_its_file(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    absent = place.base(mine, BaseChoice("public"))
    (tmp_path / "public.pth").write_bytes(b"weights")
    first = place.base(mine, BaseChoice("public"))
    (tmp_path / "public.pth").write_bytes(b"other weights")

    assert len({absent, first, place.base(mine, BaseChoice("public"))}) == 3


def test_a_dataset_is_known_by_the_hashes_of_its_files(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    before = place.base(mine, BaseChoice("ours"))
    folder = place.dataset(mine.datasets["sources"])
    folder.mkdir(parents=True)

    def base_of(spec: str, labels: str) -> Path:
        cases = {"c1": {"image": "34", "labels": labels}}
        write_json(folder / "manifest.json", {"inputs": {spec: "12"}, "case_sha256": cases})
        os.utime(folder / "manifest.json", ns=(0, next(moments)))
        return place.base(mine, BaseChoice("ours"))

    moments = itertools.count()
    here = base_of("/a/spec.yaml", "56")
    assert here != before
    assert base_of("/b/spec.yaml", "56") == here  # wherever the files lie
    assert base_of("/a/spec.yaml", "78") != here  # one label map was corrected


def test_a_base_is_known_by_its_plans(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    shipped = place.base(mine, BaseChoice("ours"))
    (tmp_path / "headneck_cpu").write_text("{}", encoding="utf-8")  # beside the table

    assert place.base(mine, BaseChoice("ours")) != shipped


def test_a_base_may_be_made_of_another_one(tmp_path: Path) -> None:
    place = Workspace(tmp_path, tmp_path, tmp_path)
    (tmp_path / "other").write_text("{}", encoding="utf-8")
    kinds = [{}, {"channels": ["MR=CT"]}, {"channels": ["MR=CT"], "plans": "other"}]
    bases = {f"b{index}": {"imported": {"base": "ours", **kind}} for index, kind in enumerate(kinds)}
    mine = table(bases={**CONTENT["bases"], **bases})

    assert len({place.base(mine, BaseChoice(name)).name.split("_")[1] for name in ("ours", *bases)}) == 4
    with pytest.raises(ValueError, match="names 'public', but the pretrained bases are ours"):
        table(bases={**CONTENT["bases"], "x": {"imported": {"base": "public"}}})
    with pytest.raises(ValueError, match="either file or base"):
        table(bases={"x": {"imported": {"base": "ours", "file": "a.pth"}}})
    with pytest.raises(ValueError, match="where a person gets"):
        table(bases={"x": {"imported": {"file": "a.pth"}}})


def test_a_dataset_of_other_specs_is_not_taken(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    for name in "abc":
        (tmp_path / name).write_text("", encoding="utf-8")
    folder = place.dataset(mine.datasets["target"])
    folder.mkdir(parents=True)
    config = {"specs": ["/x/other.yaml"], "root": str(tmp_path)}
    write_json(folder / "manifest.json", {"config": config})

    with pytest.raises(UsageError, match="assembled from other specs"):
        Preparation(mine, place, "cpu").make([], ["target"])
    write_json(folder / "manifest.json", {"config": {**config, "specs": ["c"], "channels": "per_dataset"}})
    with pytest.raises(UsageError, match=r"channels per_dataset\n  asked: .* channels merged"):
        Preparation(mine, place, "cpu").make([], ["target"])


def test_whatever_fails_a_run_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(run_cell, "run_adapt", no_memory)
    cell = cells()[0]
    folder = RunFolder(tmp_path / "run")
    job = run_cell.CellJob(
        folder=folder,
        base=tmp_path,
        raw=tmp_path,
        preprocessed=tmp_path,
        dataset=tmp_path,
        settings=cell.settings,
        cases=None,
        pool=None,
        test=("t1",),
        transductive=False,
        scoring=table().scoring,
        device="cpu",
    )

    assert run_cell.run_cell(job) == "RuntimeError: can't allocate memory"
    assert folder.failure.read_text(encoding="utf-8") == "RuntimeError: can't allocate memory\n"
    assert "Traceback" in folder.details.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[1].glob("scripts/tables/*.yaml")), ids=lambda f: f.stem)
def test_shipped_tables_have_cells(file: Path) -> None:
    assert cells_of(read_table(file), file.name)


TINY = {
    "title": "Tiny",
    "phantoms": {"cases_per_source": 2, "target_cases": 5},
    "datasets": {
        "sources": {"specs": ["PhantomNorth", "PhantomEast"], "id": 901, "name": "Phantoms"},
        "target": {"specs": ["PhantomTarget"], "id": 804, "name": "PhantomTarget"},
    },
    "bases": {
        "universal": {
            "pretrained": {
                "dataset": "sources",
                "plans": "phantom_plans",
                "settings": {"steps": 2, "steps_per_epoch": 1, "validation_crops": 2},
            }
        }
    },
    "targets": {"site": {"dataset": "target", "structures": ["liver", "stomach"], "test": {"last": 2}}},
    "settings": {"recipe.max_steps": 2, "recipe.feature_crops": 4},
    "axes": {"method": ["zero_shot", "full", "spatial_adapter"], "shots": [1, 4]},  # the pool has three cases
    "scoring": {"tile_step_size": 1.0},
    "baselines": ["full"],
}


@pytest.mark.full
def test_a_table_from_phantoms_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    command = ["table", str(file), "--out", str(out), "--json"]

    assert main(command) == 1  # four shots of three cases fail their cells alone
    first = json.loads(capsys.readouterr().out)
    assert (first["cells"], first["done"], first["ran"], len(first["failures"])) == (5, 3, 3, 2)
    page = (out / "tables" / "tiny" / "table.md").read_text(encoding="utf-8")
    assert "4 shots were asked for" in page
    assert "| spatial_adapter | 1 |" in page

    file.write_text(yaml.safe_dump({**TINY, "title": "Again", "axes": {**TINY["axes"], "shots": [1, 2]}}))
    assert main([*command, "--anonymous"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["done"], second["ran"]) == (5, 2)  # those with one shot are not run again
    numbers = read_csv(out / "tables" / "tiny" / "numbers.csv")
    assert {(row["method"], row["shots"]) for row in numbers} == {("zero_shot", "0")} | {
        (method, shots) for method in ("full", "spatial_adapter") for shots in ("1", "2")
    }
    assert {row["structures"] for row in numbers if row["method"] == "zero_shot"} == {"liver"}  # of two
    html = (out / "tables" / "tiny" / "table.html").read_text(encoding="utf-8")
    assert "Worst, median and best case" in html
    assert 'class="viewer' in html
    assert "Adapted with fsseg " in html
    for text in (str(tmp_path), "PhantomTarget_"):
        assert text not in html
    per_case = read_csv(out / "tables" / "tiny" / "per_case.csv")
    assert {row["case"] for row in per_case} == {"case_001", "case_002"}
