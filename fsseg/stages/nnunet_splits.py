"""Stage: splits_final.json of nnU-Net for a dataset of few cases."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import write_json
from fsseg.config.results import Result
from fsseg.data.splits import Fold, few_shot_folds, leave_one_out, make_split, read_case_lists
from fsseg.nnunet.environment import SPLITS_NAME, dataset_folder, preprocessed_folder
from fsseg.nnunet.preprocessed_dataset import preprocessed_cases
from fsseg.nnunet.preprocessed_structures import duplicates_of_preprocessed

_DEFAULT_FOLDS = 3


class NnunetSplitsConfig(StrictModel):
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


@dataclass(frozen=True)
class NnunetSplitsResult(Result):
    """Splits that were written.

    Attributes:
        out: the file.
        dataset: name of the dataset.
        splits: a fold each, with its cases for training and for validation.
    """

    out: Path
    dataset: str
    splits: list[Fold]


def run_nnunet_splits(config: NnunetSplitsConfig) -> NnunetSplitsResult:
    """Write the splits; nnU-Net uses them instead of its five folds, for which it needs five cases.

    Raises:
        UsageError: unknown dataset, more shots than cases leave for validation, or splits exist.
        FssegError: the dataset has no preprocessed case.

    Example:
        >>> run_nnunet_splits(NnunetSplitsConfig(dataset="104", shots=5)).splits[0]["train"]
        ['case_02', 'case_05', 'case_11', 'case_12', 'case_19']
    """
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
    duplicates = duplicates_of_preprocessed(folder)
    lists = read_case_lists(config.pool, config.test)
    cases = list(make_split(cases, shots=1, seed=0, duplicates=duplicates, **lists).pool)
    if config.shots is None:
        splits = leave_one_out(cases, duplicates)
    else:
        splits = few_shot_folds(cases, config.shots, config.folds or _DEFAULT_FOLDS, duplicates)
    write_json(out, splits)
    return NnunetSplitsResult(out, folder.name, splits)
