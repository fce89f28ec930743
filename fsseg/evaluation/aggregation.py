"""From per-case values to means with their spread: bootstrap over cases, paired differences, several seeds.

Cases are the sampling unit: the question is how a method does on further patients, and further seeds on the
same patients do not answer it. So several seeds are averaged per case first, and cases are resampled; the
spread over seeds is reported beside it, not mixed into it.

nan values (structures empty in both masks, undefined distances) are left out and counted in `left_out`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fsseg.config.errors import FssegError

RESAMPLES = 10_000
LEVEL = 0.95
BOOTSTRAP_SEED = 0

Pair = tuple[str, str]  # case and structure


@dataclass(frozen=True)
class CaseRow:
    """One row of metrics.csv: the metrics of one structure in one case (see `fsseg.evaluation.metrics`)."""

    case: str
    structure: str
    dsc: float
    nsd: float
    hd95_mm: float
    volume_prediction_ml: float
    volume_reference_ml: float
    status: str


@dataclass(frozen=True)
class Summary:
    """Mean over cases, sample sd, 95 % interval [low, high] of the mean, and how many values took part.

    `sd`, `low` and `high` are nan below two values, `mean` is nan without any.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    left_out: int


@dataclass(frozen=True)
class StructureSummary:
    """The summaries of one structure over its cases; `statuses` counts the rows of each status."""

    dsc: Summary
    nsd: Summary
    hd95_mm: Summary
    statuses: dict[str, int]


def summarise(values: Iterable[float], seed: int = BOOTSTRAP_SEED, resamples: int = RESAMPLES) -> Summary:
    """Summarise one value per case; nan values are left out and counted."""
    given = np.asarray(list(values), dtype=np.float64)
    kept = given[~np.isnan(given)]
    low, high = bootstrap_interval(kept, seed, resamples)
    return Summary(
        mean=_mean(kept),
        sd=_sd(kept),
        low=low,
        high=high,
        n=len(kept),
        left_out=len(given) - len(kept),
    )


def summarise_pairs(
    values: Mapping[Pair, float],
    weights: Mapping[str, float],
    seed: int = BOOTSTRAP_SEED,
    resamples: int = RESAMPLES,
) -> Summary:
    """Summarise the weighted mean over structures of their means over cases.

    Cases are resampled with all their structures, so a case that is hard in all of them counts as one. Structures may
    have different cases. A structure without a value is left out of the mean, and its weight with it.

    Args:
        values: (case, structure) -> value.
        weights: structure -> weight; others are not looked at.
        seed: of the resampling.
        resamples: number of resampled means; 0 gives no interval.
    """
    table, share = _table(values, list(weights)), np.array(list(weights.values()))
    each_case = _weighted_means(table, np.eye(len(table)), share)
    low = high = math.nan
    if len(table) > 1 and resamples:
        tail = (1 - LEVEL) / 2
        means = _weighted_means(table, _drawn_times(len(table), seed, resamples), share)
        low, high = (float(x) for x in np.nanquantile(means, (tail, 1 - tail)))
    mean = float(_weighted_means(table, np.ones((1, len(table))), share)[0]) if len(table) else math.nan
    undefined = sum(name in weights and math.isnan(value) for (_, name), value in values.items())
    return Summary(mean, _sd(each_case), low, high, n=len(table), left_out=undefined)


def case_means(values: Mapping[Pair, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Return case -> weighted mean over its structures; cases without a value are left out. See `summarise_pairs`."""
    found: dict[str, list[tuple[float, float]]] = {}
    for (case, structure), value in values.items():
        if structure in weights and not math.isnan(value):
            found.setdefault(case, []).append((weights[structure], value))
    return {case: sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) for case, pairs in found.items()}


def _table(values: Mapping[Pair, float], structures: Sequence[str]) -> np.ndarray:
    """Return values as (cases, structures), nan where there is none, without cases that have none at all."""
    cases = sorted({case for case, _ in values})
    rows = [[values.get((case, name), math.nan) for name in structures] for case in cases]
    table = np.array(rows, dtype=np.float64).reshape(len(cases), len(structures))
    return table[~np.isnan(table).all(axis=1)]


@cache  # the same for all numbers of a page
def _drawn_times(cases: int, seed: int, resamples: int) -> np.ndarray:
    """Return how often each resample draws each case, (resamples, cases)."""
    drawn = np.random.default_rng(seed).integers(cases, size=(resamples, cases))
    return np.stack([(drawn == index).sum(axis=1) for index in range(cases)], axis=1).astype(np.float64)


def _weighted_means(table: np.ndarray, counts: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return for each row of counts (B, cases) the mean over structures of table (cases, structures)."""
    known = ~np.isnan(table)
    times = counts @ known
    with np.errstate(invalid="ignore"):
        means = (counts @ np.where(known, table, 0.0)) / times
        weight = np.where(times > 0, share, 0.0)
        return np.nansum(means * weight, axis=1) / weight.sum(axis=1)


def bootstrap_interval(
    values: np.ndarray, seed: int = BOOTSTRAP_SEED, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean.

    Args:
        values: (n,) one finite value per case.
        seed: of the resampling; the same values and seed give the same interval.
        resamples: number of resampled means.

    Returns:
        Lower and upper bound; nan below two values, where resampling knows no spread.
    """
    if len(values) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values[drawn].mean(axis=1), (tail, 1 - tail))
    return float(low), float(high)


def summarise_structures(rows: Iterable[CaseRow], seed: int = BOOTSTRAP_SEED) -> dict[str, StructureSummary]:
    """Summarise the rows of each structure, in the order in which the structures first occur."""
    by_structure: dict[str, list[CaseRow]] = {}
    for row in rows:
        by_structure.setdefault(row.structure, []).append(row)
    return {structure: _structure_summary(group, seed) for structure, group in by_structure.items()}


def mean_over_seeds(per_seed: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average the values of each case over seeds; a case is nan only where it is nan for every seed.

    Args:
        per_seed: for each seed, case -> value.

    Raises:
        FssegError: the seeds were not evaluated on the same cases.
    """
    for other in per_seed[1:]:
        _require_same_cases(per_seed[0], other)
    return {case: _mean(_finite(values[case] for values in per_seed)) for case in per_seed[0]}


def paired_difference(a: Mapping[str, float], b: Mapping[str, float], seed: int = BOOTSTRAP_SEED) -> Summary:
    """Summarise `a - b` case by case; with several seeds, pass the results of `mean_over_seeds`.

    A case whose value is nan in either is left out and counted.

    Raises:
        FssegError: the two were not evaluated on the same cases.
    """
    _require_same_cases(a, b)
    return summarise((a[case] - b[case] for case in sorted(a)), seed)


def _structure_summary(rows: Sequence[CaseRow], seed: int) -> StructureSummary:
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[row.status] = statuses.get(row.status, 0) + 1
    return StructureSummary(
        dsc=summarise((row.dsc for row in rows), seed),
        nsd=summarise((row.nsd for row in rows), seed),
        hd95_mm=summarise((row.hd95_mm for row in rows), seed),
        statuses=statuses,
    )


def _require_same_cases(a: Mapping[str, float], b: Mapping[str, float]) -> None:
    only_a, only_b = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
    if only_a or only_b:
        raise FssegError(
            "Results on different cases cannot be compared.\n"
            f"  only in the first: {', '.join(only_a) or '(none)'}\n"
            f"  only in the second: {', '.join(only_b) or '(none)'}\n"
            "  Evaluate both on the same cases, for example with `fsseg evaluate --cases`."
        )


def _finite(values: Iterable[float]) -> np.ndarray:
    given = np.asarray(list(values), dtype=np.float64)
    return given[~np.isnan(given)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
