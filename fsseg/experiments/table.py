"""Run what is missing of a table, and write its page after every run."""

import logging
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from fsseg.config.progress import Progress
from fsseg.config.staging import not_written
from fsseg.experiments.costs.table_cost import TableCost, table_cost
from fsseg.experiments.executors.choice import at_once, run_jobs
from fsseg.experiments.missing import find_missing, missing_error
from fsseg.experiments.open_table import OpenTable, TableConfig, open_table
from fsseg.experiments.out_lock import sole_table
from fsseg.experiments.page.render import Failures, Rendering
from fsseg.experiments.preparing import prepare
from fsseg.experiments.run_cell import note_failure, run_cell

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableResult:
    """What became of a table.

    Attributes:
        page: the HTML page.
        cells: how many cells were asked for.
        done: how many are finished.
        ran: how many runs were finished now.
        failures: messages of those that failed.
        missing: data, checkpoints and cases for want of which other cells did not run.
    """

    page: Path
    cells: int
    done: int
    ran: int
    failures: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class TablePlan:
    """What a dry run says.

    Attributes:
        cells: how many cells were asked for.
        runs: how many runs they share.
        done: how many of these are finished.
        missing: data, checkpoints and cases that are not there, with the page where a person gets them.
        bases: bases that are yet to be made.
        cost: hours and disk of what is left.
    """

    cells: int
    runs: int
    done: int
    missing: tuple[str, ...]
    bases: tuple[str, ...]
    cost: TableCost


def plan_table(config: TableConfig) -> TablePlan:
    """Return what `run_table` would do, and what it costs; nothing is written but costs that were measured.

    Raises:
        UsageError: errors of the table file, all at once.
    """
    opened = open_table(config)
    jobs, threads = at_once(config)
    runs = {opened.run(cell) for cell in opened.cells}
    return TablePlan(
        cells=len(opened.cells),
        runs=len(runs),
        done=sum(run.is_done for run in runs),
        missing=tuple(find_missing(opened).lines),
        bases=tuple(choice.title for choice in opened.bases if not opened.base(choice).is_dir()),
        cost=table_cost(opened, jobs=jobs, threads=threads),
    )


def run_table(config: TableConfig, command: str) -> TableResult:
    """Run what is missing, and write the page after every run; what is finished is not run again.

    A run that fails fails its cell, and the others go on. So do those that have what they need where others lack it.

    Args:
        config: which table.
        command: what makes it, for the page.

    Raises:
        UsageError: errors of the table file, all at once; no cell has what it needs; another table writes the same
            folder; the cluster that was asked for is not here.
        FssegError: a base cannot be made, or the page cannot be written.

    Example:
        >>> run_table(TableConfig(table=Path("phantom.yaml"), out=Path("tables"), jobs=2), "fsseg table phantom")
    """
    opened = open_table(config)
    missing = find_missing(opened)
    able = replace(opened, cells=[cell for cell in opened.cells if not missing.stops(opened, cell)])
    if not able.cells:
        raise missing_error(missing.lines)
    for line in missing.lines:
        log.warning("Missing: %s", line)
    page = Rendering(opened, command, missing)
    with sole_table(opened.place.out):
        prepare(able)
        ran, failures = _run_missing(able, page)
    return TableResult(
        page=page.file,
        cells=len(opened.cells),
        done=sum(opened.run(cell).is_done for cell in opened.cells),
        ran=ran,
        failures=tuple(failures.values()),
        missing=tuple(missing.lines),
    )


def _run_missing(opened: OpenTable, page: Rendering) -> tuple[int, Failures]:
    """Return how many runs were finished, and the messages of the others.

    A page that cannot be written, for lack of space, does not stop the runs: it is an error in the end only.
    """
    opened.folder.mkdir(parents=True, exist_ok=True)
    jobs = opened.jobs()
    failures: Failures = {}
    page.write(failures)
    with (
        closing(run_jobs(run_cell, jobs, opened.config, opened.place.out)) as results,
        Progress("table", len(jobs), "run") as progress,
    ):
        for job, failure in progress.over(results):
            if failure:
                failures[job.folder] = note_failure(job.folder, failure)
            try:
                page.write(failures)
            except OSError as error:
                log.warning("The page of the table is not up to date: %s. The runs go on.", error.strerror)
    try:
        page.write(failures, last=True)
    except OSError as error:
        raise not_written(opened.folder, error, resumable=True) from error
    return len(jobs) - len(failures), failures
