"""What a table needs and does not find: data, checkpoints, and cases that it names; all of it in one listing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fsseg.config.errors import UsageError, first_of
from fsseg.config.shipped_files import SPECS
from fsseg.data.spec_loading import load_spec
from fsseg.data.specs import DatasetSpec
from fsseg.experiments.definition.grid import BaseChoice, Cell
from fsseg.experiments.definition.sources import TableDataset
from fsseg.experiments.definition.targets import Cases
from fsseg.experiments.open_table import OpenTable
from fsseg.experiments.source_cases import cases_in
from fsseg.nnunet.raw_dataset import read_raw_dataset

_MOST_CASES = 10


@dataclass(frozen=True)
class Missing:
    """What is missing, a line each.

    Attributes:
        of_datasets: name of a dataset -> sources whose data are not there, and where a person gets them.
        of_bases: name of a base -> its checkpoint, and where a person gets it.
        of_targets: name of a target -> the cases that its dataset lacks.
        unusable: targets that lack pool or test cases, so that no cell of theirs can run.
        absent: name of a target -> the cases, of which a cell may need one as support.
    """

    of_datasets: Mapping[str, list[str]]
    of_bases: Mapping[str, list[str]]
    of_targets: Mapping[str, list[str]]
    unusable: frozenset[str] = frozenset()
    absent: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """All of it, each once."""
        parts = (self.of_datasets, self.of_bases, self.of_targets)
        return list(dict.fromkeys(line for part in parts for lines in part.values() for line in lines))

    def stops(self, opened: OpenTable, cell: Cell) -> list[str]:
        """Return what a cell lacks."""
        needed = [opened.table.targets[cell.target].dataset, *_pretraining_data(opened, cell.base)]
        lines = [line for name in needed for line in self.of_datasets.get(name, ())]
        lines += self.of_bases.get(cell.base.name, ())
        if cell.target in self.unusable or self.absent.get(cell.target, frozenset()).intersection(cell.cases or ()):
            lines += self.of_targets[cell.target]
        return list(dict.fromkeys(lines))


def find_missing(opened: OpenTable) -> Missing:
    """Look for everything that the cells of a table need; nothing is read but names of files.

    Raises:
        UsageError: a spec that the table names does not exist, or is wrong.
    """
    if opened.table.phantoms is not None:
        return Missing({}, {}, {})
    pretraining = [name for choice in opened.bases for name in _pretraining_data(opened, choice)]
    found = {name: _Found(opened, name) for name in dict.fromkeys([*opened.datasets, *pretraining])}
    targets = dict.fromkeys(cell.target for cell in opened.cells)
    gaps = {name: gap for name in targets if (gap := _gap(opened, name, found))}
    return Missing(
        of_datasets={name: lines for name, dataset in found.items() if (lines := dataset.missing)},
        of_bases={choice.name: lines for choice in opened.bases if (lines := _checkpoint(opened, choice))},
        of_targets={name: gap.lines for name, gap in gaps.items()},
        unusable=frozenset(name for name, gap in gaps.items() if gap.of_all),
        absent={name: gap.absent for name, gap in gaps.items()},
    )


def missing_error(lines: Sequence[str]) -> UsageError:
    """Return the error of a table of which nothing can run."""
    listing = "\n".join(f"  - {line}" for line in lines)
    return UsageError(
        f"Nothing of the table can run. These are missing:\n{listing}\n  Put them there, and start again."
    )


class _Found:
    """The cases of a dataset of the table that are there, and the sources that are not."""

    def __init__(self, opened: OpenTable, name: str) -> None:
        dataset, place = opened.table.datasets[name], opened.place
        self.missing: list[str] = []
        self.name = place.dataset(dataset).name
        if place.dataset(dataset).is_dir():
            self.cases = set(read_raw_dataset(place.dataset(dataset)).cases)
            return
        self.cases = set()
        for spec in _specs(opened, dataset):
            cases = cases_in(spec, place.root)
            self.cases |= cases
            if not cases:
                folder = place.root / spec.folder
                self.missing.append(f"data of {spec.name}: {folder} ({_page(spec)}; licence: {spec.licence})")


def _specs(opened: OpenTable, dataset: TableDataset) -> list[DatasetSpec]:
    return [load_spec(opened.place.found(word, SPECS)) for word in dataset.specs]


def _page(spec: DatasetSpec) -> str:
    if spec.homepage:
        return f"get them from {spec.homepage}"
    return f"its spec names no page: {spec.citation or 'data of your own'}"


def _pretraining_data(opened: OpenTable, choice: BaseChoice) -> list[str]:
    """Return the dataset that a base is yet to be pretrained on."""
    base = opened.table.bases[choice.name]
    if opened.base(choice).is_dir():
        return []
    if base.imported is not None and base.imported.base is not None:
        return _pretraining_data(opened, BaseChoice(base.imported.base))
    pretrained = base.pretrained
    if pretrained is None:
        return []
    return [pretrained.changed(choice.pretrain).dataset]


def _checkpoint(opened: OpenTable, choice: BaseChoice) -> list[str]:
    imported = opened.table.bases[choice.name].imported
    if imported is None or imported.base is not None or opened.place.checkpoint(imported).is_file():
        return []
    return [f"checkpoint: {opened.place.checkpoint(imported)} (get it from {imported.page})"]


@dataclass(frozen=True)
class _Gap:
    """What the dataset of a target lacks: lines about it, the cases, and whether all cells need one of them."""

    lines: list[str]
    absent: frozenset[str]
    of_all: bool


def _gap(opened: OpenTable, name: str, found: Mapping[str, _Found]) -> _Gap | None:
    """Return what a target names, by its lists or in a cell, and its dataset lacks; None where that is nothing."""
    target = opened.table.targets[name]
    dataset = found[target.dataset]
    if dataset.missing:
        return None
    lists = [which for which in (target.pool, target.test) if which is not None]
    needed = {case for which in lists for case in target.named(which.names or ())}
    named = {case for cases in target.lists for case in target.named(cases)}
    named |= {case for cell in opened.cells if cell.target == name for case in cell.cases or ()}
    absent = named - dataset.cases
    lines = _too_few(name, lists, dataset)
    of_all = bool(lines or absent & needed)
    if absent:
        lines.append(
            f"cases of target {name}: {len(absent)} of {len(named)} that the table names are not in {dataset.name},"
            f" so these are data of another version than the table expects: {first_of(sorted(absent), _MOST_CASES)}"
        )
    return _Gap(lines, frozenset(absent), of_all) if lines else None


def _too_few(name: str, lists: Iterable[Cases], dataset: _Found) -> list[str]:
    most = max((which.number or 0 for which in lists if which.names is None), default=0)
    if most <= len(dataset.cases):
        return []
    return [f"cases of target {name}: {most} are wanted, but {dataset.name} has {len(dataset.cases)}"]
