"""What a table needs and does not find is told at once, before anything runs; what has all it needs runs."""

import json
from pathlib import Path

import pytest
from conftest import Outcome, fsseg
from table_files import TABLE, write

from fsseg.experiments.missing import find_missing
from fsseg.experiments.open_table import TableConfig, open_table


def refused(*words: object) -> Outcome:
    outcome = fsseg(*words)
    assert outcome.code == 2
    return outcome


def test_data_and_checkpoints_that_are_missing_are_told_with_their_pages(tmp_path: Path) -> None:
    outcome = refused(*write(tmp_path))

    assert "Nothing of the table can run" in outcome.err
    assert f"{tmp_path}/root/site (get them from https://example.org/site; licence: CC BY 4.0)" in outcome.err
    assert f"{tmp_path}/root/public.pth (get it from https://example.org/public)" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_it_too_and_runs_nothing(tmp_path: Path) -> None:
    outcome = fsseg(*write(tmp_path, axes={**TABLE["axes"], "shots": [1, 2]}), "--where", "shots=1", "--dry-run")

    assert outcome.code == 0, outcome.err
    assert "1 cells, 1 runs, 0 of them finished" in outcome.out
    assert outcome.out.count("missing: ") == 2


def test_cases_of_another_version_are_counted_and_the_first_ten_named(tmp_path: Path) -> None:
    err = refused(*write(tmp_path, cases=("a", "t00"))).err

    names = ", ".join(["Site_b", *(f"Site_t{number:02d}" for number in range(1, 10))])
    assert "cases of target liver: 12 of 14 that the table names are not in Dataset104_Target" in err
    assert f"another version than the table expects: {names}, and 2 more" in err


def test_a_support_case_that_is_missing_stops_its_seed_alone(tmp_path: Path) -> None:
    target = {**TABLE["targets"]["liver"], "pool": None, "test": {"names": ["a"]}}
    target["support"] = {0: ["b"], 1: ["gone"]}
    axes = {**TABLE["axes"], "base": ["ours"], "seed": [0, 1]}
    words = write(tmp_path, cases=("a", "b"), targets={"liver": target}, axes=axes)
    table = open_table(TableConfig(table=words[1], root=words[3], out=words[5]))
    missing = find_missing(table)

    assert [bool(missing.stops(table, cell)) for cell in table.cells] == [False, True]
    assert "1 of 3 that the table names" in missing.lines[0]


def test_more_cases_than_there_are_is_told(tmp_path: Path) -> None:
    target = {**TABLE["targets"]["liver"], "pool": {"first": 5}, "test": {"names": ["a"]}}
    err = refused(*write(tmp_path, cases=("a", "b"), targets={"liver": target})).err

    assert "cases of target liver: 5 are wanted, but Dataset104_Target has 2" in err


def test_cells_that_have_what_they_need_run_and_the_others_say_what_they_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {**TABLE["targets"]["liver"], "test": {"names": ["t1"]}}
    words = write(
        tmp_path,
        cases=("a", "b", "t1"),
        targets={"liver": target},
        axes={**TABLE["axes"], "base": ["public", "ours"]},
    )
    made: list[str] = []
    monkeypatch.setattr(
        "fsseg.experiments.bases.Preparation.make", lambda self, bases, _: made.extend(base.name for base in bases)
    )
    monkeypatch.setattr("fsseg.experiments.open_table.OpenTable.jobs", lambda self: [])
    outcome = fsseg(*words, "--json")

    result = json.loads(outcome.out)
    assert (outcome.code, made, result["cells"]) == (1, ["ours"], 2)
    assert [line.split(":")[0] for line in result["missing"]] == ["checkpoint"]
    page = (tmp_path / "out/tables/mine/table.md").read_text(encoding="utf-8")
    assert "base public, method full, shots 1: Missing: checkpoint: " in page
