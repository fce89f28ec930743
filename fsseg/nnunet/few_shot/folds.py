"""Folds of a few-shot adaptation in nnU-Net's commands: made of the pool's cases; a test case is in none."""

from collections.abc import Sequence

from nnunetv2.utilities.crossval_split import generate_crossval_split

from fsseg.config.errors import FssegError, UsageError, first_of
from fsseg.config.few_shot import FewShotSettings
from fsseg.data.splits import Duplicates, leave_one_out
from fsseg.data.structures import duplicates_of

FOLDS_OF_NNUNET = 5
_MOST_CASES = 5


def pool_cases(cases: Sequence[str], settings: FewShotSettings, duplicates: Duplicates) -> list[str]:
    """Return the cases that may train and validate, sorted: those of the pool, without test cases and their images.

    Args:
        cases: all preprocessed cases.
        settings: what the plans say.
        duplicates: groups of cases that are the same image.

    Raises:
        FssegError: a pool case is not preprocessed, or no case is left.
    """
    pool = cases if settings.pool is None else settings.pool
    missing = sorted(set(pool) - set(cases))
    if missing:
        raise FssegError(
            f"{len(missing)} case(s) of the pool are not preprocessed: {first_of(missing, _MOST_CASES)}\n"
            "  Preprocess the dataset again with these plans, or make plans with another --pool."
        )
    allowed = sorted(set(pool) - {*settings.test, *duplicates_of(settings.test, duplicates)})
    if not allowed:
        raise FssegError("No case is left to train on: all are test cases.\n  Make plans with a shorter --test list.")
    return allowed


def fold_of_pool(pool: Sequence[str], fold: int, duplicates: Duplicates) -> tuple[list[str], list[str]]:
    """Return training and held-out cases of a fold: nnU-Net's five, or of fewer than five cases one held out.

    Raises:
        UsageError: there is no such fold.
    """
    if len(pool) < FOLDS_OF_NNUNET:
        folds = leave_one_out(pool, duplicates)
    else:
        folds = generate_crossval_split(list(pool), n_splits=FOLDS_OF_NNUNET)
    if fold >= len(folds):
        raise UsageError(f"{len(pool)} case(s) give the folds 0 to {len(folds) - 1}, got fold {fold}.")
    training, held_out = (list(map(str, folds[fold][part])) for part in ("train", "val"))
    return training, held_out


def restricted(
    training: Sequence[str], held_out: Sequence[str], pool: Sequence[str], duplicates: Duplicates
) -> tuple[list[str], list[str]]:
    """Return a fold without what is not in the pool; no image that it holds out is trained on.

    Raises:
        UsageError: no training case is left.
    """
    validated = [case for case in held_out if case in pool]
    unseen = duplicates_of(validated, duplicates)
    trained = [case for case in training if case in pool and case not in unseen]
    if not trained:
        raise UsageError(
            f"The fold has no training case in the pool of the plans: {first_of(training, _MOST_CASES)}\n"
            "  Choose another fold, or delete splits_final.json if no training uses it: folds are then made of the"
            " pool."
        )
    return trained, validated
