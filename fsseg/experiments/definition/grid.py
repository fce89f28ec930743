"""The cells of a table: every combination of the values of its axes, each with the settings of its run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.errors import UsageError, listed_errors
from fsseg.experiments.definition.cell_settings import (
    BASE,
    METHOD,
    PRETRAIN,
    SEED,
    SHOTS,
    TRANSDUCTIVE,
    ZERO_SHOT,
    below,
    cell_settings,
    setting_problems,
)
from fsseg.experiments.definition.paper import PaperRow
from fsseg.experiments.definition.table_file import AxisValue, TableFile
from fsseg.experiments.definition.targets import Target
from fsseg.methods.registry import DEFAULT_METHOD

TARGET = "target"  # as an axis it gives every target rows of its own; otherwise they share rows
_FOLD = "fold"
REPLICATES = (SEED, f"{PRETRAIN}{_FOLD}")  # axes whose runs are averaged
_LABEL = "label"

Labels = dict[str, str]
Values = dict[str, Any]


@dataclass(frozen=True)
class BaseChoice:
    """A base of the table, with the settings of its pretraining that an axis changes."""

    name: str
    pretrain: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def title(self) -> str:
        """What tells it apart on the page: its name and the settings that are changed. Folds share one."""
        return ", ".join([self.name, *(f"{key} {value}" for key, value in self.pretrain.items() if key != _FOLD)])


@dataclass(frozen=True)
class Cell:
    """One run of a table.

    Attributes:
        labels: axis -> label of its value.
        target: name of the target.
        base: what it starts from.
        cases: support cases by name; None draws `settings.shots` of the pool.
        settings: of the adaptation.
        transductive: whether images of the test cases take part in the training, without their label maps.
    """

    labels: Mapping[str, str]
    target: str
    base: BaseChoice
    cases: tuple[str, ...] | None
    settings: AdaptationSettings
    transductive: bool = False

    @property
    def row(self) -> tuple[tuple[str, str], ...]:
        """The labels without the replicates: runs of one row differ in the seed, the fold or the target alone."""
        return tuple((axis, label) for axis, label in self.labels.items() if axis not in REPLICATES)

    @property
    def replicate(self) -> tuple[str, ...]:
        """The labels of the replicates."""
        return tuple(self.labels[axis] for axis in REPLICATES if axis in self.labels)

    @property
    def is_zero_shot(self) -> bool:
        """Whether the base is scored as it is."""
        return self.settings.method == ZERO_SHOT


def cells_of(table: TableFile, where: str) -> list[Cell]:
    """Return the cells in the order of the axes, the last one changing fastest, and then of the targets.

    Args:
        table: the table.
        where: its file, for messages.

    Raises:
        UsageError: settings, methods, options or bases that do not exist; all of them in one message.
    """
    problems: dict[str, None] = {}  # of one setting only once, however many cells have it
    cells: dict[tuple[object, ...], Cell] = {}
    for labels, values in _combinations(table):
        if any(left_out.items() <= labels.items() for left_out in table.leave_out):
            continue
        for name in _targets(table, values):
            target = table.targets[name]
            wrong = setting_problems(table.bases, target, own := {**table.settings, **target.settings, **values})
            problems |= dict.fromkeys(wrong)
            if not wrong:
                cell = _cell(labels, name, target, own, next(iter(table.bases)))
                cells.setdefault((*cell.labels.items(), name), cell)  # a base as it is has no seeds and shots
    problems |= dict.fromkeys(_unknown_labels(table))
    if problems:
        raise UsageError(listed_errors(list(problems), where))
    if not cells:
        raise UsageError(f"{where} has no cell: `leave_out` names every combination.")
    return list(cells.values())


def used_targets(table: TableFile) -> list[str]:
    """Return the targets that have a structure of the columns."""
    shown = {name for names in table.columns.values() for name in names} or set(table.structures)
    return [name for name, target in table.targets.items() if shown & set(target.structures)]


def label_of(value: AxisValue) -> str:
    """Return how a value of an axis is called: by its label, or by what it sets."""
    if isinstance(value, dict):
        return str(value.get(_LABEL) or ", ".join(f"{key}={setting}" for key, setting in value.items()))
    return str(value)


def _combinations(table: TableFile) -> Iterator[tuple[Labels, Values]]:
    """Yield the labels and the settings of each combination. A table of one method has its label, too."""
    method = {} if METHOD in table.axes else {METHOD: str(table.settings.get(METHOD, DEFAULT_METHOD))}
    for values in product(*table.axes.values()):
        chosen = dict(zip(table.axes, values, strict=True))
        labels = method | {axis: label_of(value) for axis, value in chosen.items()}
        settings: Values = {}
        for axis, value in chosen.items():
            settings |= {k: v for k, v in value.items() if k != _LABEL} if isinstance(value, dict) else {axis: value}
        yield labels, settings


def _targets(table: TableFile, values: Values) -> list[str]:
    """Return the targets of a combination; takes the axis of that name out of its settings."""
    if TARGET not in values:
        return used_targets(table)
    own = values.pop(TARGET)
    return [own] if own in table.targets else []


def _cell(labels: Labels, name: str, target: Target, values: Values, first_base: str) -> Cell:
    base = BaseChoice(values.get(BASE, first_base), below(PRETRAIN, values))
    settings, cases = cell_settings(target, values)
    if settings.method == ZERO_SHOT:
        labels = {axis: {SHOTS: "0", SEED: "0"}.get(axis, label) for axis, label in labels.items()}
    return Cell(labels, name, base, cases, settings, values.get(TRANSDUCTIVE, False))


def _unknown_labels(table: TableFile) -> list[str]:
    """Return what is wrong with the labels that `baselines`, `leave_out`, `papers` and the axis of targets name."""
    known = {axis: [label_of(value) for value in values] for axis, values in table.axes.items()}
    if ZERO_SHOT in known.get(METHOD, ()):
        known.setdefault(SHOTS, []).append("0")
    named = [(METHOD, label, "baselines") for label in table.baselines]
    named += [(axis, label, "leave_out") for entry in table.leave_out for axis, label in entry.items()]
    named += [(axis, label, "papers") for row in _paper_rows(table) for axis, label in row.labels.items()]
    unknown = dict.fromkeys(entry for entry in named if entry[1] not in known.get(entry[0], ()))
    problems = [
        f"{where} names {label!r}, which the axis {axis!r} lacks ({', '.join(known.get(axis, ['no such axis']))})"
        for axis, label, where in unknown
    ]
    strange = [label for label in known.get(TARGET, ()) if label not in table.targets]
    return problems + [f"target {label!r} is none of {', '.join(table.targets)}" for label in strange]


def _paper_rows(table: TableFile) -> list[PaperRow]:
    """Return the rows of papers that belong to one of ours."""
    return [row for paper in table.papers for row in paper.rows if not row.absent]
