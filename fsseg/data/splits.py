"""Support and test cases: seeded, nested (1 in 5 in 10), and test cases that never change."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import write_json
from fsseg.data.structures import duplicates_of

SPLIT_NAME = "split.json"
SUPPORT_KEY = "support_cases"  # of a dataset.json: what the model was adapted to; it goes on to the predictions
TRANSDUCTIVE_KEY = "transductive_cases"  # and this: which images it saw without their label maps
CaseList = Path | tuple[str, ...] | None  # a file with one case a line, or the cases
Duplicates = Sequence[Sequence[str]]  # groups of cases that are the same image
Fold = dict[str, list[str]]  # as nnU-Net writes it: "train" and "val" -> cases


class Split(StrictModel):
    """Which cases a run learned from, could have learned from, and must be tested on."""

    seed: int
    shots: int
    support: tuple[str, ...]
    pool: tuple[str, ...]
    test: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write split.json."""
        write_json(folder / SPLIT_NAME, self.model_dump(mode="json"))


def leave_one_out(cases: Sequence[str], duplicates: Duplicates = ()) -> list[Fold]:
    """Return a fold for every case, as nnU-Net writes folds; a single case is its own validation.

    Args:
        cases: the cases.
        duplicates: groups of cases that are the same image; a fold does not train on the image that it validates on.

    Raises:
        UsageError: several cases, and all of them are one image.
    """
    if len(cases) == 1:
        return [{"train": list(cases), "val": list(cases)}]
    without = {case: {case, *duplicates_of([case], duplicates)} for case in cases}
    folds = [{"train": [other for other in cases if other not in without[case]], "val": [case]} for case in cases]
    if not all(fold["train"] for fold in folds):
        raise UsageError(f"{', '.join(cases)} are the same image, so none can be held out.\n  Give other cases.")
    return folds


def read_case_list(path: Path) -> tuple[str, ...]:
    """Read a file with one case identifier a line; empty lines and lines that start with # are skipped.

    Raises:
        UsageError: the file is missing, no UTF-8 text, or names no case.
    """
    advice = "\n  Give a text file with one case identifier a line."
    if not path.is_file():
        raise UsageError(f"Case list not found: {path}{advice}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UsageError(f"Case list {path} is no UTF-8 text: {error}{advice}") from None
    cases = tuple(line for line in lines if line and not line.startswith("#"))
    if not cases:
        raise UsageError(f"Case list {path} names no case.{advice}")
    return cases


def read_case_lists(pool: CaseList, test: CaseList) -> dict[str, tuple[str, ...]]:
    """Return `pool` and `test` as `make_split` takes them, of those that are given."""
    lists = {"pool": pool, "test": test}
    return {
        name: read_case_list(cases) if isinstance(cases, Path) else cases
        for name, cases in lists.items()
        if cases is not None
    }


def make_split(
    cases: Sequence[str],
    *,
    shots: int,
    seed: int,
    pool: Sequence[str] | None = None,
    test: Sequence[str] = (),
    support: Sequence[str] | None = None,
    duplicates: Duplicates = (),
) -> Split:
    """Draw the support cases.

    The pool is put in one seeded order and the first `shots` cases are taken, so that draws with more shots contain
    those with fewer, and every method of the same seed sees the same cases.

    Args:
        cases: all cases of the dataset.
        shots: number of support cases.
        seed: decides the order of the pool.
        pool: cases that may be drawn; default: all but the test cases and their duplicates.
        test: test cases; never drawn.
        support: support cases by name, instead of a draw.
        duplicates: groups of cases that are the same image.

    Raises:
        UsageError: unknown cases, a test case or its duplicate in pool or support, more shots than pool cases.
    """
    for kind, names in (("pool case", pool or ()), ("test case", test), ("support case", support or ())):
        require_known(kind, names, cases, "The dataset's images with a label map are the cases.")
    tested_images = duplicates_of(test, duplicates)
    pool = tuple(sorted(set(pool))) if pool is not None else tuple(sorted(set(cases) - set(test) - tested_images))
    _refuse({*pool, *(support or ())} & set(test), "test cases and training cases at once")
    _refuse({*pool, *(support or ())} & tested_images, "training cases, but the same image as a test case")
    if support is None:
        if not pool:
            raise UsageError("No case is left to draw: all are test cases.\n  Shorten the --test list.")
        if not 1 <= shots <= len(pool):
            raise UsageError(
                f"{shots} shots were asked for, but the pool has {len(pool)} case(s).\n"
                f"  allowed: --shots 1 to {len(pool)}, or a longer --pool list."
            )
        order = np.random.default_rng(seed).permutation(len(pool))
        support = [pool[index] for index in order[:shots]]
    support = tuple(dict.fromkeys(support))  # a case named twice is one shot
    return Split(seed=seed, shots=len(support), support=support, pool=pool, test=tuple(sorted(set(test))))


def few_shot_folds(cases: Sequence[str], shots: int, folds: int, duplicates: Duplicates = ()) -> list[Fold]:
    """Return folds that train on few cases each and validate on the others.

    Args:
        cases: the cases.
        shots: training cases of a fold; fold f holds those that `make_split` draws with seed f.
        folds: how many.
        duplicates: groups of cases that are the same image; a fold does not validate on an image that it trains on.

    Raises:
        UsageError: the shots leave no case for validation.
    """
    if shots >= len(cases):
        raise UsageError(
            f"{shots} shots leave none of {len(cases)} case(s) for validation.\n"
            "  Choose fewer, or leave --shots out: leave-one-out works from one case on."
        )
    drawn = [make_split(cases, shots=shots, seed=seed).support for seed in range(folds)]
    tested = [set(cases) - set(few) - duplicates_of(few, duplicates) for few in drawn]
    return [{"train": sorted(few), "val": sorted(rest)} for few, rest in zip(drawn, tested, strict=True)]


def _refuse(leaked: set[str], what: str) -> None:
    if leaked:
        raise UsageError(
            f"{len(leaked)} case(s) are {what}: {', '.join(sorted(leaked)[:5])}\n  Remove them from one of the lists."
        )
