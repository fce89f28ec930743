"""Cases that a pretraining holds out for validation: five folds of every source."""

from collections.abc import Sequence

import numpy as np

from fsseg.config.errors import UsageError
from fsseg.config.pretraining import FOLDS
from fsseg.data.structures import Structures, duplicates_of

LEAST_CASES = FOLDS  # of a source that gives some to validation: one to each fold


def stratified_holdout(
    cases: Sequence[str], structures: Structures, share: float, seed: int, fold: int = 0
) -> tuple[list[str], list[str]]:
    """Split cases into training and validation, the same share of every source.

    The n cases of a source are put in a seeded order. Fold f holds out a share s of them from position f/5 n on, and
    begins again at the front behind the last. So the folds 0 to 4 hold out every case exactly once where s is a fifth,
    and no case twice where s is smaller.

    A source with fewer than five cases gives none to validation. Which cases of a source are held out does not depend
    on the other sources, so that a network of one source and one of all of them are validated on the same cases. The
    parts of one collection are sources of their own. A case that is the same image as one held out, often of another
    source, is in neither part.

    Raises:
        UsageError: there is no such fold.
    """
    if not 0 <= fold < FOLDS:
        raise UsageError(f"Unknown fold {fold}.\n  allowed: 0 to {FOLDS - 1}, all (train on all cases)")
    validation: list[str] = []
    for members in cases_of_sources(cases, structures).values():
        validation += _held_out(members, structures.annotation(members[0]).source, share, seed, fold)
    return sorted(set(cases) - set(validation) - duplicates_of(validation, structures.duplicates)), sorted(validation)


def cases_of_sources(cases: Sequence[str], structures: Structures) -> dict[str, list[str]]:
    """Return source -> its cases, both sorted."""
    members: dict[str, list[str]] = {}
    for case in sorted(cases):
        members.setdefault(structures.annotation(case).source, []).append(case)
    return dict(sorted(members.items()))


def _held_out(members: Sequence[str], source: str, share: float, seed: int, fold: int) -> list[str]:
    count = len(members)
    if count < LEAST_CASES or share == 0:
        return []
    order = np.random.default_rng([seed, *source.encode()]).permutation(count)
    first = round(fold / FOLDS * count)
    last = max(first + 1, round((fold / FOLDS + share) * count))
    return [members[index] for index in np.roll(order, -first)[: last - first]]
