"""A table that was read and checked: the cells that were asked for, and where everything of it lies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import read_json
from fsseg.data.structures import structures_of_dataset_json
from fsseg.experiments.bases import Preparation
from fsseg.experiments.definition.columns import Column, columns_of
from fsseg.experiments.definition.grid import BaseChoice, Cell, cells_of, used_targets
from fsseg.experiments.definition.table_file import TableFile, read_table
from fsseg.experiments.executors.slurm_settings import SlurmSettings
from fsseg.experiments.run_cell import CellJob
from fsseg.experiments.run_order import features_first
from fsseg.experiments.workspace import RunFolder, Workspace
from fsseg.nnunet.raw_dataset import read_raw_dataset
from fsseg.pretraining.held_out import held_out_cases


class TableConfig(StrictModel):
    """Which table to make, and where."""

    table: Path = Field(description="the table file")
    out: Path = Field(description="working folder; tables that share it share runs")
    root: Path | None = Field(default=None, description="folder with the data and checkpoints that the table names")
    executor: Literal["local", "slurm"] = Field(default="local", description="this machine, or a Slurm cluster")
    slurm: SlurmSettings = Field(default_factory=SlurmSettings, description="what each run asks of the cluster")
    jobs: int | None = Field(default=None, ge=1, description="runs at a time; None for one, or for one a GPU")
    threads: int | None = Field(default=None, ge=1, description="of a run; None for one, or for its share beside a GPU")
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="axis -> the labels to run")
    only: tuple[str, ...] = Field(default=(), description="only what these targets or structures need")
    anonymous: bool = Field(default=False, description="call the cases case_001, case_002, ... on the page")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")

    @model_validator(mode="after")
    def _slurm_is_used(self) -> "TableConfig":
        if self.executor != "slurm" and self.slurm != SlurmSettings():
            raise ValueError("slurm is given without executor: add --executor slurm, or leave --slurm out")
        return self


@dataclass(frozen=True)
class OpenTable:
    """A table with the cells that were asked for.

    Attributes:
        config: which table, and where.
        table: its file.
        place: where everything lies.
        cells: those that were asked for.
    """

    config: TableConfig
    table: TableFile
    place: Workspace
    cells: Sequence[Cell]

    @cached_property
    def bases(self) -> list[BaseChoice]:
        """The bases of the cells, each once."""
        found: list[BaseChoice] = []
        for cell in self.cells:
            if cell.base not in found:
                found.append(cell.base)
        return found

    @property
    def datasets(self) -> list[str]:
        """The datasets that the cells adapt to."""
        return list(dict.fromkeys(self.table.targets[cell.target].dataset for cell in self.cells))

    @cached_property
    def preparation(self) -> Preparation:
        """What makes datasets and bases."""
        return Preparation(self.table, self.place, self.config.device)

    @property
    def folder(self) -> Path:
        """Where the page goes."""
        return self.place.out / "tables" / self.config.table.stem

    def run(self, cell: Cell) -> RunFolder:
        """Return the run of a cell."""
        return self.place.run(self.table, cell)

    def base(self, choice: BaseChoice) -> Path:
        """Return the model folder of a base."""
        return self.place.base(self.table, choice)

    def known(self, choice: BaseChoice) -> tuple[str, ...]:
        """Return the structures that the head of a base names; none of a base that is yet to be made."""
        folder = self.base(choice)
        if not folder.is_dir():
            return ()
        return tuple(structures_of_dataset_json(read_json(folder / "dataset.json"), folder).names)

    def columns(self) -> dict[str, list[Column]]:
        """Return base -> the columns of its rows."""
        return {choice.title: columns_of(self.table, self.known(choice)) for choice in self.bases}

    def jobs(self) -> list[CellJob]:
        """Return the runs that are missing, each once however many cells share it."""
        missing = {run: cell for cell in self.cells if not (run := self.run(cell)).is_done}
        return [self._job(run, cell) for run, cell in features_first(missing)]

    def _job(self, run: RunFolder, cell: Cell) -> CellJob:
        target = self.table.targets[cell.target]
        dataset, base = self.place.dataset(self.table.datasets[target.dataset]), self.base(cell.base)
        cases = read_raw_dataset(dataset).cases
        held_out = held_out_cases(base) if target.test.held_out else ()
        return CellJob(
            folder=run,
            base=base,
            raw=self.place.raw,
            preprocessed=self.place.preprocessed,
            dataset=dataset,
            settings=cell.settings,
            cases=cell.cases,
            pool=target.chosen(target.pool, cases) if target.pool else None,
            test=target.chosen(target.test, cases, held_out),
            transductive=cell.transductive,
            scoring=self.table.scoring,
            device=self.config.device,
        )


def open_table(config: TableConfig) -> OpenTable:
    """Read a table and choose its cells.

    Raises:
        UsageError: errors of the table file, all at once; labels, targets or structures that it does not have.
    """
    table = read_table(config.table)
    if table.phantoms is None and config.root is None:
        raise UsageError(f"{config.table} needs data: give their folder by --root.")
    if table.phantoms is not None and config.root is not None:
        raise UsageError(f"{config.table} makes its own phantoms.\n  Leave --root out.")
    out = config.out.absolute()
    phantoms = out / f"phantoms_{table.phantoms.key}" if table.phantoms else out
    place = Workspace(out, (config.root or phantoms).absolute(), config.table.absolute().parent)
    cells = _with_labels(cells_of(table, str(config.table)), config.where, table)
    return OpenTable(config, table, place, _of_structures(cells, config.only, table))


def _with_labels(cells: Sequence[Cell], where: Mapping[str, Sequence[str]], table: TableFile) -> list[Cell]:
    require_known("axis", where, table.axes)
    for axis, labels in where.items():
        require_known(f"label of {axis}", labels, {cell.labels[axis] for cell in cells})
    return [cell for cell in cells if all(cell.labels[axis] in labels for axis, labels in where.items())]


def _of_structures(cells: Sequence[Cell], only: Iterable[str], table: TableFile) -> list[Cell]:
    names = {name: {name, *table.targets[name].structures} for name in used_targets(table)}
    wanted = set(only)
    require_known("target or structure", wanted, set().union(*names.values()))
    return [cell for cell in cells if not wanted or wanted & names[cell.target]]
