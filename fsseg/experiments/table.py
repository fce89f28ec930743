"""Run what is missing of a table, and write its page after every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import read_json
from fsseg.config.progress import Progress
from fsseg.data.structures import structures_of_dataset_json
from fsseg.experiments.bases import Preparation
from fsseg.experiments.grid import Cell, cells_of
from fsseg.experiments.local_executor import run_locally
from fsseg.experiments.page import Page
from fsseg.experiments.results import Finished, finished, groups_of, rows_of
from fsseg.experiments.run_cell import CellJob, run_cell
from fsseg.experiments.table_file import read_table
from fsseg.experiments.workspace import RunFolder, Workspace
from fsseg.nnunet.environment import nnunet_folders
from fsseg.nnunet.raw_dataset import read_raw_dataset


class TableConfig(StrictModel):
    """Which table to make, and where."""

    table: Path = Field(description="the table file")
    out: Path = Field(description="working folder; tables that share it share runs")
    root: Path | None = Field(default=None, description="folder with the data and checkpoints that the table names")
    jobs: int = Field(default=1, ge=1, description="runs at a time on this machine, one thread each")
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="axis -> the labels to run")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")


@dataclass(frozen=True)
class TableResult:
    """What became of a table.

    Attributes:
        page: the HTML page.
        cells: how many cells were asked for.
        done: how many are finished.
        ran: how many runs were finished now.
        failures: messages of those that failed.
    """

    page: Path
    cells: int
    done: int
    ran: int
    failures: tuple[str, ...]


@dataclass(frozen=True)
class TablePlan:
    """What a dry run says.

    Attributes:
        cells: how many cells were asked for.
        runs: how many runs they share.
        done: how many of these are finished.
        missing: checkpoints that are not there, with the page where a person gets them.
        bases: bases that are yet to be made.
    """

    cells: int
    runs: int
    done: int
    missing: tuple[str, ...]
    bases: tuple[str, ...]


class _Opened:
    """A table with the cells that were asked for, and where everything of it lies."""

    def __init__(self, config: TableConfig) -> None:
        self.config = config
        self.table = read_table(config.table)
        if self.table.phantoms is None and config.root is None:
            raise UsageError(f"{config.table} needs data: give their folder by --root.")
        if self.table.phantoms is not None and config.root is not None:
            raise UsageError(f"{config.table} makes its own phantoms.\n  Leave --root out.")
        out = config.out.absolute()
        root = config.root or out / f"phantoms_{self.table.phantoms_key}"
        self.place = Workspace(out, root.absolute(), config.table.absolute().parent)
        self.cells = self._chosen(cells_of(self.table, str(config.table)))
        self.bases = list(dict.fromkeys(cell.base for cell in self.cells))
        self.preparation = Preparation(self.table, self.place, config.device)

    @property
    def folder(self) -> Path:
        """Where the page goes."""
        return self.place.out / "tables" / self.config.table.stem

    def _chosen(self, cells: list[Cell]) -> list[Cell]:
        where = self.config.where
        require_known("axis", where, self.table.axes)
        for axis, labels in where.items():
            require_known(f"label of {axis}", labels, {cell.labels[axis] for cell in cells})
        return [cell for cell in cells if all(cell.labels[axis] in labels for axis, labels in where.items())]

    def run(self, cell: Cell) -> RunFolder:
        """Return the run of a cell."""
        return self.place.run(self.table, cell)


def plan_table(config: TableConfig) -> TablePlan:
    """Return what `run_table` would do; nothing is written.

    Raises:
        UsageError: errors of the table file, all at once.
    """
    opened = _Opened(config)
    runs = {opened.run(cell) for cell in opened.cells}
    return TablePlan(
        cells=len(opened.cells),
        runs=len(runs),
        done=sum(run.is_done for run in runs),
        missing=tuple(opened.preparation.missing(opened.bases)),
        bases=tuple(name for name in opened.bases if not opened.place.base(opened.table, name).is_dir()),
    )


def run_table(config: TableConfig, command: str) -> TableResult:
    """Run what is missing, and write the page after every run; what is finished is not run again.

    A run that fails fails its cell, and the others go on.

    Args:
        config: which table.
        command: what makes it, for the page.

    Raises:
        UsageError: errors of the table file, all at once; data or a checkpoint is missing.
        FssegError: a base cannot be made.

    Example:
        >>> run_table(TableConfig(table=Path("phantom.yaml"), out=Path("tables"), jobs=2), "fsseg table phantom")
    """
    opened = _Opened(config)
    place = opened.place
    with nnunet_folders(raw=place.raw, preprocessed=place.preprocessed):
        opened.preparation.make(opened.bases)
        opened.folder.mkdir(parents=True, exist_ok=True)
        jobs = _jobs(opened)
        _render(opened, command)
        failures: dict[RunFolder, str] = {}
        results = run_locally(run_cell, jobs, workers=config.jobs)
        with Progress("table", len(jobs), "run") as progress:
            for job, failure in progress.over(results):
                failures |= {job.folder: failure} if failure else {}
                _render(opened, command)
    done = sum(opened.run(cell).is_done for cell in opened.cells)
    page = opened.folder / "table.html"
    return TableResult(page, len(opened.cells), done, len(jobs) - len(failures), tuple(failures.values()))


def _jobs(opened: _Opened) -> list[CellJob]:
    """Return the runs that are missing, each once however many cells share it."""
    table, place = opened.table, opened.place
    dataset = place.dataset(table.datasets[table.dataset])
    cases = read_raw_dataset(dataset).cases
    lists = {"test": table.test.of(cases), **({"pool": table.pool.of(cases)} if table.pool else {})}
    for name, chosen in lists.items():
        (opened.folder / f"{name}.txt").write_text("".join(f"{case}\n" for case in chosen), encoding="utf-8")
    missing = {run: cell for cell in opened.cells if not (run := opened.run(cell)).is_done}
    return [
        CellJob(
            folder=run,
            base=place.base(table, cell.base),
            raw=place.raw,
            preprocessed=place.preprocessed,
            dataset=dataset,
            settings=cell.settings,
            cases=cell.cases,
            pool=opened.folder / "pool.txt" if table.pool else None,
            test=opened.folder / "test.txt",
            test_cases=lists["test"],
            scoring=table.scoring,
            device=opened.config.device,
        )
        for run, cell in missing.items()
    ]


def _render(opened: _Opened, command: str) -> None:
    table = opened.table
    states = {index: state for index, cell in enumerate(opened.cells) if (state := _state(cell, opened.run(cell)))}
    known = {name for base in opened.bases for name in _head_names(opened.place.base(table, base))}
    groups = groups_of(table.structures, known)
    Page(table, command, groups, rows_of(opened.cells, states, groups, table.baselines)).write(opened.folder)


def _head_names(base: Path) -> Sequence[str]:
    return structures_of_dataset_json(read_json(base / "dataset.json"), base).names


def _state(cell: Cell, run: RunFolder) -> Finished | str | None:
    if run.is_done:
        return finished(cell, run)
    return run.failure.read_text(encoding="utf-8").strip() if run.failure.is_file() else None
