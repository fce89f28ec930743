"""Cases that a pretraining holds out for validation."""

from collections.abc import Sequence

import numpy as np

from fsseg.data.structures import Structures, duplicates_of


def stratified_holdout(
    cases: Sequence[str], structures: Structures, share: float, seed: int, fold: int = 0
) -> tuple[list[str], list[str]]:
    """Split cases into training and validation, the same share of every source; folds are disjoint as long as they can.

    A source with fewer than five cases gives none to validation. Which cases of a source are held out does not depend
    on the other sources, so that a network of one source and one of all of them are validated on the same cases. A case
    that is the same image as one held out, often of another source, is in neither part.
    """
    validation: list[str] = []
    for source in sorted({structures.annotation(case).source for case in cases}):
        members = sorted(case for case in cases if structures.annotation(case).source == source)
        order = np.random.default_rng([seed, *source.encode()]).permutation(len(members))
        count = max(1, round(share * len(members))) if len(members) >= 5 and share > 0 else 0
        validation += [members[index] for index in np.roll(order, -fold * count)[:count]]
    return sorted(set(cases) - set(validation) - duplicates_of(validation, structures.duplicates)), sorted(validation)
