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

from fsseg.cli.main import main
from fsseg.config.csv_file import read_csv
from fsseg.config.errors import UsageError
from fsseg.config.json_files import write_json
from fsseg.evaluation.aggregation import CaseRow
from fsseg.experiments import run_cell
from fsseg.experiments.bases import Preparation
from fsseg.experiments.grid import Cell, cells_of
from fsseg.experiments.local_executor import run_locally
from fsseg.experiments.page import Page
from fsseg.experiments.results import Finished, groups_of, rows_of
from fsseg.experiments.table_file import TableFile, read_table
from fsseg.experiments.workspace import RunFolder, Workspace

CONTENT: dict[str, Any] = {
    "title": "A table",
    "datasets": {
        "sources": {"specs": ["a", "b"], "id": 901, "name": "Sources"},
        "target": {"specs": ["c"], "id": 104, "name": "Target"},
    },
    "bases": {
        "ours": {"pretrained": {"dataset": "sources", "plans": "headneck_cpu", "settings": {"steps": 10}}},
        "public": {"imported": {"file": "public.pth", "page": "https://example.org"}},
    },
    "dataset": "target",
    "structures": ["liver", "larynx"],
    "pool": {"first": 3},
    "test": {"last": 2},
    "settings": {"recipe.max_steps": 7},
    "axes": {
        "method": ["full", {"label": "lora + decoder", "method": "lora", "decoder": "tuned", "options.rank": 3}],
        "shots": [1, 2],
        "seed": [0, 1],
    },
    "baselines": ["full"],
}


def table(**changes: Any) -> TableFile:
    return TableFile.model_validate({**CONTENT, **changes})


def cells(**changes: Any) -> list[Cell]:
    return cells_of(table(**changes), "the table")


def test_every_combination_is_a_cell_with_its_settings() -> None:
    grid = cells()

    assert len(grid) == 2 * 2 * 2
    assert grid[0].labels == {"method": "full", "shots": "1", "seed": "0"}
    last = grid[-1]
    assert (last.settings.method, last.settings.decoder, last.settings.method_options) == ("lora", "tuned", {"rank": 3})
    assert (last.settings.shots, last.settings.seed, last.settings.recipe.max_steps) == (2, 1, 7)
    assert last.base == "ours"


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
    assert {cell.base for cell in grid} == {"ours", "public"}
    assert (grid[0].cases, grid[0].settings.shots) == (("c1", "c2", "c3"), 3)
    assert grid[0].labels["support"] == "old scanner"


def test_a_published_recipe_counts_its_steps_by_the_shots_of_the_cell() -> None:
    grid = cells(settings={"recipe": "fseft"}, axes={"method": ["linear_probe"], "shots": [1, 5]}, baselines=())

    assert [cell.settings.recipe.max_steps for cell in grid] == [199, 5 * 199]


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
        ({"dataset": "targt"}, "'targt'"),
        ({"bases": {"none": {}}}, "either pretrained or imported"),
        ({"test": {"first": 1, "last": 1}}, "one of first, last and names"),
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


def test_a_dry_run_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    axes = {**CONTENT["axes"], "base": ["public"]}
    file.write_text(yaml.safe_dump({**CONTENT, "axes": axes}), encoding="utf-8")
    command = ["table", str(file), "--root", str(tmp_path), "--out", str(tmp_path / "out")]

    assert main([*command, "--dry-run", "--where", "shots=1", "seed=0"]) == 0
    said = capsys.readouterr().out
    assert "2 cells, 2 runs, 0 of them finished" in said
    assert f"missing: {tmp_path / 'public.pth'} (get it from https://example.org)" in said
    assert not (tmp_path / "out").exists()
    assert main(command) == 2
    assert "https://example.org" in capsys.readouterr().err


def run(cell: Cell, liver: float, larynx: float) -> Finished:
    values = {"liver": liver, "larynx": larynx}
    rows = [
        CaseRow(case, name, value + 0.01 * index, 0.5, math.nan, 1.0, 1.0, "ok")
        for index, case in enumerate(("t1", "t2"))
        for name, value in values.items()
    ]
    manifest = {"parameters": {"trainable": 10, "head": 2}, "steps": 7, "fit_seconds": 3.0}
    return Finished(cell, rows, {**manifest, "peak_memory_mib": {"host": 100.0}})


def page_of(grid: list[Cell], runs: dict[int, Finished | str]) -> Page:
    groups = groups_of(("liver", "larynx"), known=["liver"])
    return Page(table(), "fsseg table a", groups, rows_of(grid, runs, groups, ["full"]))


def test_the_page_shows_means_over_seeds_and_paired_differences(tmp_path: Path) -> None:
    grid = cells(axes={**CONTENT["axes"], "shots": [1]})
    scores = [(0.80, 0.40), (0.84, 0.44), (0.90, 0.40), (0.90, 0.50)]
    page = page_of(grid, {index: run(cell, *scores[index]) for index, cell in enumerate(grid)})

    full, lora = page.rows
    assert full.numbers["liver"].dsc.mean == pytest.approx(0.825)
    assert full.numbers["liver"].sd_over_seeds == pytest.approx(0.04 / math.sqrt(2))
    assert lora.numbers["larynx"].minus["full"].mean == pytest.approx(0.03)
    page.write(tmp_path)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| full | 0.825 ± 0.028 |" in text
    assert "4 of 4 runs are finished" in text
    assert len(read_csv(tmp_path / "per_case.csv")) == 4 * 4
    assert r"lora + decoder & 0.905 $\pm$ 0.000" in (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert "<table>" in (tmp_path / "table.html").read_text(encoding="utf-8")


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
    first.rows[0] = replace(first.rows[0], dsc=math.nan)
    (row,) = page_of(grid, {0: first, 1: second}).rows

    assert row.numbers["liver"].dsc.n == 2
    assert row.numbers["liver"].dsc.mean == pytest.approx((0.80 + 0.81) / 2)


def square(number: int) -> str:
    return str(number * number)


def test_jobs_run_in_other_processes() -> None:
    assert sorted(run_locally(square, [1, 2, 3], workers=2)) == [(1, "1"), (2, "4"), (3, "9")]
    assert list(run_locally(square, [], workers=2)) == []


def test_a_base_is_known_by_its_file(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    absent = place.base(mine, "public")
    (tmp_path / "public.pth").write_bytes(b"weights")
    first = place.base(mine, "public")
    (tmp_path / "public.pth").write_bytes(b"other weights")

    assert len({absent, first, place.base(mine, "public")}) == 3


def test_a_dataset_is_known_by_the_hashes_of_its_files(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    before = place.base(mine, "ours")
    folder = place.dataset(mine.datasets["sources"])
    folder.mkdir(parents=True)

    def base_of(spec: str, labels: str) -> Path:
        cases = {"c1": {"image": "34", "labels": labels}}
        write_json(folder / "manifest.json", {"inputs": {spec: "12"}, "case_sha256": cases})
        os.utime(folder / "manifest.json", ns=(0, next(moments)))
        return place.base(mine, "ours")

    moments = itertools.count()
    here = base_of("/a/spec.yaml", "56")
    assert here != before
    assert base_of("/b/spec.yaml", "56") == here  # wherever the files lie
    assert base_of("/a/spec.yaml", "78") != here  # one label map was corrected


def test_a_base_is_known_by_its_plans(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    shipped = place.base(mine, "ours")
    (tmp_path / "headneck_cpu").write_text("{}", encoding="utf-8")  # beside the table

    assert place.base(mine, "ours") != shipped


def test_a_dataset_of_other_specs_is_not_taken(tmp_path: Path) -> None:
    place, mine = Workspace(tmp_path, tmp_path, tmp_path), table()
    for name in "abc":
        (tmp_path / name).write_text("", encoding="utf-8")
    folder = place.dataset(mine.datasets["target"])
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"config": {"specs": ["/x/other.yaml"], "root": str(tmp_path)}})

    with pytest.raises(UsageError, match="assembled from other specs"):
        Preparation(mine, place, "cpu").make([])


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
        test=tmp_path / "test.txt",
        test_cases=("t1",),
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
    "dataset": "target",
    "structures": ["liver", "stomach"],
    "test": {"last": 2},
    "settings": {"recipe.max_steps": 2, "recipe.feature_crops": 4},
    "axes": {"method": ["full", "spatial_adapter"], "shots": [1, 4]},  # the pool has three cases
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
    assert (first["cells"], first["done"], first["ran"], len(first["failures"])) == (4, 2, 2, 2)
    page = (out / "tables" / "tiny" / "table.md").read_text(encoding="utf-8")
    assert "4 shots were asked for" in page
    assert "| spatial_adapter | 1 |" in page

    file.write_text(yaml.safe_dump({**TINY, "title": "Again", "axes": {**TINY["axes"], "shots": [1, 2]}}))
    assert main(command) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["done"], second["ran"]) == (4, 2)  # those with one shot are not run again
    numbers = read_csv(out / "tables" / "tiny" / "numbers.csv")
    assert {(row["method"], row["shots"]) for row in numbers} == {
        (method, shots) for method in ("full", "spatial_adapter") for shots in ("1", "2")
    }
