"""Stage: splits_final.json of nnU-Net for a dataset of few cases."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import write_json
from fsseg.data.splits import Duplicates, leave_one_out, make_split, read_case_lists
from fsseg.data.structures import duplicates_of, load_structures
from fsseg.nnunet.environment import SPLITS_NAME, dataset_folder, preprocessed_folder, structures_folder

_DEFAULT_FOLDS = 3


class SplitsConfig(StrictModel):
    """What to split.

    Attributes:
        dataset: number or name of a preprocessed dataset.
        shots: training cases of a fold; None is leave-one-out.
        pool, test: files with one case a line; folds are made of the pool (None: all but the test cases), and test
            cases are in none.
        folds: folds with `shots`; fold f holds the support cases that `fsseg adapt --seed f` draws.
    """

    dataset: str
    shots: int | None = Field(default=None, ge=1)
    folds: int | None = Field(default=None, ge=1)
    pool: Path | None = None
    test: Path | None = None


def run_splits(config: SplitsConfig) -> dict[str, Any]:
    """Write the splits; nnU-Net uses them instead of its five folds, for which it needs five cases.

    Raises:
        UsageError: unknown dataset, more shots than cases leave for validation, or splits exist.
        FssegError: the dataset has no preprocessed case.
    """
    from fsseg.nnunet.preprocessed_dataset import preprocessed_cases

    if config.folds is not None and config.shots is None:
        raise UsageError("--folds goes with --shots; leave-one-out has a fold for every case.")
    folder = dataset_folder(preprocessed_folder(), config.dataset)
    out = folder / SPLITS_NAME
    if os.path.lexists(out):
        raise UsageError(
            f"Splits exist already: {out}\n  Trainings refer to them. Delete the file if none does any more."
        )
    cases = preprocessed_cases(folder)
    if not cases:
        raise FssegError(f"{folder} holds no preprocessed case.\n  Run `fsseg preprocess` first.")
    duplicates, shots = _duplicates(folder), config.shots
    lists = read_case_lists(config.pool, config.test)
    cases = list(make_split(cases, shots=1, seed=0, duplicates=duplicates, **lists).pool)
    splits = leave_one_out(cases, duplicates) if shots is None else _few_shot(cases, shots, config.folds, duplicates)
    write_json(out, splits)
    return {"out": str(out), "dataset": folder.name, "splits": splits}


def _few_shot(cases: list[str], shots: int, folds: int | None, duplicates: Duplicates) -> list[dict[str, list[str]]]:
    if shots >= len(cases):
        raise UsageError(
            f"{shots} shots leave none of {len(cases)} case(s) for validation.\n"
            "  Choose fewer, or leave --shots out: leave-one-out works from one case on."
        )
    drawn = [make_split(cases, shots=shots, seed=seed).support for seed in range(folds or _DEFAULT_FOLDS)]
    tested = [set(cases) - set(few) - duplicates_of(few, duplicates) for few in drawn]
    return [{"train": sorted(few), "val": sorted(rest)} for few, rest in zip(drawn, tested, strict=True)]


def _duplicates(folder: Path) -> Duplicates:
    source = structures_folder(folder)  # the raw cases may be gone
    return load_structures(source).duplicates if source.is_dir() else ()
