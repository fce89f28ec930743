"""What a table costs: hours of each kind of runs and of pretrainings, and disk; measured, or known of finished runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from fsseg.experiments.costs.cases import TestCases, find_test_cases
from fsseg.experiments.costs.kinds import Kind, kinds_of
from fsseg.experiments.costs.lookup import CostLookup
from fsseg.experiments.costs.measure import KindCost
from fsseg.experiments.costs.pretraining import PretrainingHours, pretraining_hours
from fsseg.experiments.costs.runs import Disk, RunCosts, true_seconds
from fsseg.experiments.open_table import OpenTable

_HOUR = 3600
_AT_MOST = (
    "Hours are at most: the plateau of the loss may end a training sooner. Preprocessing of support cases and scoring"
    " are not part of them."
)


@dataclass(frozen=True)
class KindHours:
    """A kind of runs.

    Attributes:
        name: what tells it from the others.
        runs: how many there are.
        done: how many of these are finished.
        hours_each: of a run that is not finished, on average; None where it is not known.
        hours: of all that are not finished.
        note: why it is not known.
    """

    name: str
    runs: int
    done: int
    hours_each: float | None
    hours: float
    note: str = ""


@dataclass(frozen=True)
class TableCost:
    """What is left of a table.

    Attributes:
        kinds: of runs.
        pretrainings: of bases that are yet to be made.
        jobs: runs at a time.
        hours: in all; runs that take all steps of their recipe, so it is the most.
        disk_mib: of what is yet to be made.
        notes: what the numbers rest on.
    """

    kinds: list[KindHours]
    pretrainings: list[PretrainingHours]
    jobs: int
    hours: float
    disk_mib: Disk
    notes: list[str] = field(default_factory=list)


def table_cost(opened: OpenTable, jobs: int, threads: int) -> TableCost:
    """Return what is left of a table; what was not measured on this machine is measured now, and kept.

    Args:
        opened: the table.
        jobs: runs at a time.
        threads: of a run.

    Raises:
        UsageError: plans or specs of the table do not exist, or are wrong.
        FssegError: a file that is there is damaged.
    """
    kinds, lookup = kinds_of(opened), CostLookup(opened, threads)
    costs = lookup.of_kinds(kinds)
    cases = {name: find_test_cases(opened, name) for name in {cell.target for cell in opened.cells}}
    runs = RunCosts(opened.table.scoring, cases, lookup.handling, shares_features=lookup.device.type == "cpu")
    lines, disk = [], Disk()
    for kind, cost in zip(kinds, costs, strict=True):
        line, needed = _kind_hours(kind, cost, runs)
        lines.append(line)
        disk += needed
    pretrainings = pretraining_hours(opened, lookup)
    hours = sum(line.hours for line in lines) / jobs + sum(line.hours or 0.0 for line in pretrainings)
    unknown = [line.note for line in lines if line.note] + [line.note for line in pretrainings if line.note]
    notes = [*_notes(list(cases.values())), *dict.fromkeys(unknown)]
    return TableCost(lines, pretrainings, jobs, round(hours, 3), disk, notes)


def _kind_hours(kind: Kind, cost: KindCost | str, runs: RunCosts) -> tuple[KindHours, Disk]:
    """Return what is left of a kind; runs with as many shots as finished ones take as long as these."""
    done = {run: cell for run, cell in kind.runs.items() if run.is_done}
    known: dict[int, list[float]] = {}
    for run, cell in done.items():
        known.setdefault(cell.settings.shots, []).append(true_seconds(run))
    seconds, disk = [], Disk()
    for run, cell in kind.runs.items():
        if run in done:
            continue
        expected, needed = runs.add(kind, cost, cell) if isinstance(cost, KindCost) else (None, Disk())
        disk += needed
        if like := known.get(cell.settings.shots):
            expected = fmean(like)
        seconds += [] if expected is None else [expected]
    unknown = cost if isinstance(cost, str) and len(seconds) < len(kind.runs) - len(done) else ""
    each = round(fmean(seconds) / _HOUR, 4) if seconds else None
    return KindHours(kind.name, len(kind.runs), len(done), each, round(sum(seconds) / _HOUR, 3), unknown), disk


def _notes(cases: Sequence[TestCases]) -> list[str]:
    """Return what the numbers rest on."""
    notes = [_AT_MOST]
    sizes = {size.extent_mm for case in cases if case.assumed for size in case.sizes}
    if sizes:
        listing = ", ".join(" x ".join(f"{mm:.0f}" for mm in size) for size in sorted(sizes))
        notes.append(f"Images are not there: {listing} mm is assumed, and voxels of 1 mm.")
    if any(not case.number for case in cases):
        notes.append("How many test cases there are is not known before the data are there.")
    return notes
