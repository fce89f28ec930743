"""Tables of few-shot papers: their cases are those of the projects, and each runs from raw files to its page."""

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import checkpoint_files
import numpy as np
import pytest
import SimpleITK
import yaml
from conftest import REPOSITORY
from phantom_collections import block, ct, image_of, phantom, save

from fsseg.config.csv_file import read_csv
from fsseg.config.shipped_files import SPECS
from fsseg.data.spec_loading import load_spec
from fsseg.experiments import table as tables
from fsseg.experiments.definition.grid import Cell, cells_of
from fsseg.experiments.definition.table_file import TableFile, read_table
from fsseg.experiments.open_table import TableConfig
from fsseg.experiments.page.paper_rows import beside
from fsseg.experiments.run_cell import CellJob, run_cell
from fsseg.experiments.table import run_table

TABLES = REPOSITORY / "scripts/tables"
ORGANS = ("spleen", "kidney_left", "gallbladder", "esophagus", "liver", "pancreas", "stomach", "duodenum", "aorta")
# Cells, and rows of the paper. With 30 shots there is one seed, and the base as it is has neither seeds nor shots.
SIZES = {
    "fseft-known": (9 * (1 + 6 * (3 * 3 + 1)), 25),
    "fseft-known-flare": (1 + 6 * (3 * 3 + 1), 25),
    "fseft-novel": (16 * 13 * 2 * 3, 13 + 3),
    "fseft-parameters": (2 * 9, 18),
    "suprem-unet": (9 * 5 * 2 * 3, 10),
    "suprem-swin": (9 * 6 * 2 * 3, 12),
    "arena-known": (9 * 6 * 3, 6),
    "arena-novel": (5 * 6 * 3, 6),
    "arena-ranks": (9 * 2 * 4 * 3, 0),
    "sea-peft": (9 * 9 * 3 * 3, 0),
    "medagi23": (45 * (1 + 1 + 4 * 3 + 3), 21),
    "medagi23-btcv": (40 * (1 + 2 * 2), 7),
}
# Rates of FSEFT and ARENA with a frozen and with a tuned decoder.
RATES = {
    "full": (1e-4, 1e-4),
    "linear_probe": (1e-2, None),
    "decoder": (None, 1e-4),
    "spatial_adapter": (1e-4, None),
    "bitfit:fseft": (1e-2, 1e-4),
    "affine:fseft": (1e-2, 1e-4),
    "tinytl:fseft": (1e-2, 1e-4),
    "adaptformer:fseft": (1e-2, 1e-4),
    "residual_adapter": (1e-2, 1e-4),
    "lora:fseft": (1e-3, 1e-4),
    "arena:paper": (1e-3, 1e-4),
}


@cache
def shipped(name: str) -> TableFile:
    return read_table(TABLES / f"{name}.yaml")


@cache
def cells(name: str) -> tuple[Cell, ...]:
    return tuple(cells_of(shipped(name), name))


@pytest.mark.parametrize("name", SIZES)
def test_a_table_has_the_cells_of_its_paper(name: str) -> None:
    rows = [row for paper in shipped(name).papers for row in paper.rows]

    assert (len(cells(name)), len(rows)) == SIZES[name]
    small = cells(f"{name}-small")
    assert 0 < len(small) < len(cells(name))
    assert {cell.settings.method for cell in small} <= {cell.settings.method for cell in cells(name)}
    assert shipped(name).differs


def drawn(pool: list[str], shots: int, seed: int) -> list[str]:
    """Draw as the later version of FSEFT does, whose last subject is held out."""
    return random.Random(seed).sample(pool, min(shots + 1, 30))[:-1]


def test_supports_are_drawn_as_the_project_draws_them() -> None:
    targets = shipped("fseft-known").targets
    sizes = dict.fromkeys(ORGANS, 30) | {"lung_upper_lobe_right": 29}

    assert len(targets) == 9 + 5 + 5 + 6
    for name, target in {**targets, **shipped("fseft-known-flare").targets}.items():
        assert target.pool is not None
        pool = list(target.pool.names or ())
        assert len(target.test.names or ()) == (22 if name == "organs" else 5)
        kind = 35 if "heart" in name else 41 if "gluteus" in name else 50 if name == "organs" else 30
        assert len(pool) == sizes.get(name, kind)
        for seed, support in target.support.items():
            for shots in (1, 5, 10):
                assert list(support[:shots]) == drawn(pool, shots, seed), (name, seed, shots)
        if len(pool) >= 30:
            assert sorted(target.support[0]) == sorted(set(drawn(pool, 30, 0)))


def test_folds_of_the_first_version_have_a_test_case_and_draws_of_their_own() -> None:
    targets = shipped("medagi23").targets

    assert len(targets) == 45
    for name, target in targets.items():
        organ, _, fold = name.rpartition("_")
        later = shipped("fseft-known").targets[organ].test.names or ()
        assert target.test.names == (later[int(fold) - 1],)
        pool = list(target.support[30])
        assert len(set(pool)) == 30
        for shots in (1, 5, 10):
            assert list(target.support[shots]) == random.Random(int(fold) - 1).sample(pool, shots)


def test_defects_of_the_lists_are_kept_and_said() -> None:
    by_shots = {(cell.labels["shots"], cell.labels["seed"], cell.target): cell for cell in cells("fseft-known")}

    assert by_shots["1", "0", "liver"].cases == by_shots["1", "2", "liver"].cases
    assert [len(by_shots[shots, "2", "pancreas"].cases or ()) for shots in ("5", "10")] == [4, 9]
    assert len(by_shots["30", "0", "liver"].cases or ()) == 29
    said = " ".join(shipped("fseft-known").differs)
    assert "seeds 0 and 2 draw the same subject" in said
    assert "4 and 9 subjects" in said
    assert "29 subjects" in said


@pytest.mark.parametrize("name", ["fseft-known", "fseft-novel", "suprem-unet", "arena-known", "arena-novel"])
def test_methods_have_the_rates_of_the_projects(name: str) -> None:
    for cell in cells(name):
        settings = cell.settings
        if not cell.is_zero_shot:
            frozen, tuned = RATES[settings.method]
            asked = tuned if settings.decoder == "tuned" or frozen is None else frozen
            (rate,) = settings.recipe.learning_rates.values()
            assert {rate, settings.recipe.head_learning_rate} == {asked}, cell.labels


@pytest.mark.parametrize(
    ("name", "mean"),
    [("fseft-novel", "36.90"), ("suprem-swin", "80.85"), ("arena-novel", "65.42"), ("medagi23", "0.277")],
)
def test_printed_means_that_are_not_those_of_their_cells_are_shown_with_these(name: str, mean: str) -> None:
    found = beside(shipped(name).papers[0], [])

    assert found.table is not None
    assert f"(mean of its cells {mean})" in str(found.table.rows)


def write_totalsegmentator(root: Path) -> None:
    """A phantom of every subject that the tables name for two structures, in the layout of the collection."""
    for target, index in (("spleen", 0), ("heart_atrium_left", 1)):
        names = shipped("fseft-known").targets[target].lists
        for number, subject in enumerate(sorted({case for cases in names for case in cases})):
            folder = root / "Totalsegmentator_dataset" / subject
            mask = np.zeros(ct().shape, np.uint8)
            mask[block(index, "left")] = 1
            save(image_of(ct() + number), folder / "ct.nii.gz")
            save(image_of(mask), folder / "segmentations" / f"{target}.nii.gz")


def write_flare(root: Path) -> None:
    """The cases that the table names, in the two folders that are handed out."""
    target = shipped("fseft-known-flare").targets["organs"]
    labels = phantom(load_spec(SPECS.files()["flare22"]).meanings).label_map()
    for number, case in enumerate(sorted({case for cases in target.lists for case in cases})):
        source, _, name = case.partition("_")
        folder = root / {"FLARE22": "FLARE22Train", "FLARE22Tuning": "Tuning"}[source]
        save(image_of(ct() + number), folder / "images" / f"{name}_0000.nii.gz")
        save(image_of(labels), folder / "labels" / f"{name}.nii.gz")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and the checkpoints that the tables ask for."""
    root = tmp_path_factory.mktemp("root")
    write_totalsegmentator(root)
    write_flare(root)
    for name in SIZES:
        for base in shipped(name).bases.values():
            assert base.imported is not None
            file = root / str(base.imported.file)
            if not file.exists():
                checkpoint_files.WRITERS[base.imported.family](file)
    return root


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder, in which the tables share datasets and bases."""
    return tmp_path_factory.mktemp("out")


def in_this_process(_work: Any, jobs: list[CellJob], *_: Any) -> Iterator[tuple[CellJob, str]]:
    for job in jobs:
        yield job, run_cell(job)


def with_one_test_case(name: str) -> dict[str, Any]:
    targets: dict[str, Any] = shipped(name).model_dump(mode="json", exclude_none=True)["targets"]
    for target in targets.values():
        target["test"]["names"] = target["test"]["names"][:1]
    return targets


# Table, labels of the axes and the structure or target: as few cells as go through all that is special about it.
RUNS = [
    ("fseft-known", {"method": ("zero_shot", "linear_probe"), "shots": ("0", "1"), "seed": ("0",)}, "spleen", 2),
    ("fseft-known-flare", {"method": ("affine:fseft",), "shots": ("1",), "seed": ("0",)}, "organs", 1),
    ("fseft-novel", {"method": ("lora:fseft + decoder",), "shots": ("5",), "seed": ("0",)}, "heart_atrium_left", 1),
    ("fseft-parameters", {"method": ("bitfit:fseft",), "target": ("spleen",)}, "spleen", 1),
    ("suprem-unet", {"method": ("tinytl:fseft",), "shots": ("5",), "seed": ("0",)}, "spleen", 1),
    ("suprem-swin", {"method": ("spatial_adapter",), "shots": ("5",), "seed": ("0",)}, "spleen", 1),
    ("arena-known", {"method": ("lora:fseft",), "seed": ("0",)}, "spleen", 1),
    ("arena-novel", {"method": ("decoder",), "seed": ("0",)}, "heart_atrium_left", 1),
    ("arena-ranks", {"method": ("arena",), "rank": ("2",), "seed": ("0",)}, "spleen", 1),
    ("sea-peft", {"method": ("adaptformer b4",), "shots": ("1",), "seed": ("0",)}, "spleen", 1),
    ("medagi23", {"method": ("spatial_adapter + sizes",), "shots": ("1",)}, "spleen_1", 1),
    ("medagi23-btcv", {"method": ("zero_shot",)}, "spleen_1", 1),
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "where", "only", "count"), RUNS, ids=[run[0] for run in RUNS])
def test_a_table_runs_from_raw_files_to_its_page(
    name: str,
    where: dict[str, tuple[str, ...]],
    only: str,
    count: int,
    root: Path,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "run_jobs", in_this_process)  # a process for each would import everything again
    own = shipped(name).settings
    cut = {"recipe.batch_size": 1, "recipe.crops_per_volume": 1, "recipe.max_steps": 2, "recipe.size_first_epoch": 1}
    file = tmp_path / f"{name}.yaml"
    content = {"like": str(TABLES / f"{name}.yaml"), "settings": {**own, **cut}, "targets": with_one_test_case(name)}
    file.write_text(yaml.safe_dump(content))

    result = run_table(
        TableConfig(table=file, root=root, out=out, where=where, only=(only,), device="cpu"), "fsseg table"
    )

    assert result.failures == ()
    assert (result.cells, result.done) == (count, count)
    text = (result.page.parent / "table.md").read_text(encoding="utf-8")
    assert all(paper.source.strip() in text for paper in shipped(name).papers)
    numbers = read_csv(result.page.parent / "numbers.csv")
    assert all(0 <= float(row["dsc"]) <= 1 for row in numbers)
    for protocol in shipped(name).scoring.protocols:
        assert all(0 <= float(row[f"dsc_{protocol}"]) <= 1 for row in numbers)
    assert SimpleITK.ReadImage(str(next(out.glob("nnUNet_raw/*/imagesTr/*.nii.gz")))).GetSize() == ct().shape[::-1]
