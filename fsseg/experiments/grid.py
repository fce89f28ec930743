"""The cells of a table: every combination of the values of its axes, each with the settings of its run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from fsseg.config.adaptation import DEFAULT_SHOTS, AdaptationSettings
from fsseg.config.base import validated
from fsseg.config.errors import FssegError, UsageError, listed_errors, nearest_name
from fsseg.config.published_recipes import named_recipe
from fsseg.experiments.table_file import AxisValue, TableFile
from fsseg.methods.registry import DEFAULT_METHOD, create_method, method_class

SEED_AXIS, METHOD_AXIS = "seed", "method"
_PLAIN = ("method", "decoder", "head", "shots", "seed")
_SETTINGS = ("base", *_PLAIN, "cases", "recipe")
_PREFIXES = ("recipe.", "options.")
_LABEL = "label"


@dataclass(frozen=True)
class Cell:
    """One run of a table.

    Attributes:
        labels: axis -> label of its value.
        base: name of the base.
        cases: support cases by name; None draws `settings.shots` of the pool.
        settings: of the adaptation.
    """

    labels: Mapping[str, str]
    base: str
    cases: tuple[str, ...] | None
    settings: AdaptationSettings

    @property
    def row(self) -> tuple[tuple[str, str], ...]:
        """The labels without the seed: runs of one row differ in the seed alone."""
        return tuple((axis, label) for axis, label in self.labels.items() if axis != SEED_AXIS)


def cells_of(table: TableFile, where: str) -> list[Cell]:
    """Return the cells in the order of the axes, the last one changing fastest.

    Args:
        table: the table.
        where: its file, for messages.

    Raises:
        UsageError: settings, methods, options or bases that do not exist; all of them in one message.
    """
    problems: dict[str, None] = {}  # of one setting only once, however many cells have it
    cells = []
    for labels, values in _combinations(table):
        if any(left_out.items() <= labels.items() for left_out in table.leave_out):
            continue
        wrong = _problems(table, values)
        problems |= dict.fromkeys(wrong)
        if not wrong:
            cells.append(_cell(table, labels, values))
    problems |= dict.fromkeys(_unknown_labels(table))
    if problems:
        raise UsageError(listed_errors(list(problems), where))
    if not cells:
        raise UsageError(f"{where} has no cell: `leave_out` names every combination.")
    return cells


def _combinations(table: TableFile) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Yield the labels and the settings of each combination."""
    for values in product(*table.axes.values()):
        chosen = dict(zip(table.axes, values, strict=True))
        labels = {axis: label_of(value) for axis, value in chosen.items()}
        settings = dict(table.settings)
        for axis, value in chosen.items():
            settings |= {k: v for k, v in value.items() if k != _LABEL} if isinstance(value, dict) else {axis: value}
        yield labels, settings


def label_of(value: AxisValue) -> str:
    """Return how a value of an axis is called: by its label, or by what it sets."""
    if isinstance(value, dict):
        return str(value.get(_LABEL) or ", ".join(f"{key}={setting}" for key, setting in value.items()))
    return str(value)


def _problems(table: TableFile, values: dict[str, Any]) -> list[str]:
    """Return what is wrong with the settings of a cell."""
    problems = [_unknown_text(key) for key in values if not _is_setting(key)]
    if values.get("base", next(iter(table.bases))) not in table.bases:
        problems.append(f"base {values['base']!r} is none of the table's: {', '.join(table.bases)}")
    try:
        create_method(str(values.get("method", DEFAULT_METHOD)), _below("options.", values))
        if not problems:
            _settings(table, values)
    except FssegError as error:
        problems.append(str(error))
    return problems


def _cell(table: TableFile, labels: dict[str, str], values: dict[str, Any]) -> Cell:
    cases = values.get("cases")
    base = values.get("base", next(iter(table.bases)))
    return Cell(labels, base, None if cases is None else tuple(cases), _settings(table, values))


def _settings(table: TableFile, values: dict[str, Any]) -> AdaptationSettings:
    settings = {"method": DEFAULT_METHOD, **{name: values[name] for name in _PLAIN if name in values}}
    if values.get("cases") is not None:
        settings["shots"] = len(values["cases"])
    settings |= {"structures": table.structures, "method_options": _below("options.", values)}
    return validated(AdaptationSettings, {**settings, "recipe": _recipe(settings, values)}, "the settings of a cell")


def _recipe(settings: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    method = method_class(settings["method"])
    named = named_recipe(
        values.get("recipe", "default"),
        family=method.family,
        decoder=settings.get("decoder") or method.decoder_choices[0],
        shots=settings.get("shots", DEFAULT_SHOTS),
        published_rate=method.published_rate,
    )
    return {**named, **_below("recipe.", values)}


def _below(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _is_setting(key: str) -> bool:
    return key in _SETTINGS or (key.startswith(_PREFIXES) and not key.endswith("."))


def _unknown_text(key: str) -> str:
    near = nearest_name(key, _SETTINGS)
    advice = f"; did you mean {near!r}?" if near else f"; a method's option is written options.{key}"
    return f"unknown setting {key!r}{advice} (allowed: {', '.join(_SETTINGS)}, recipe.KEY, options.KEY)"


def _unknown_labels(table: TableFile) -> list[str]:
    """Return what is wrong with the labels that `baselines` and `leave_out` name."""
    known = {axis: [label_of(value) for value in values] for axis, values in table.axes.items()}
    named = [(METHOD_AXIS, label, "baselines") for label in table.baselines]
    named += [(axis, label, "leave_out") for entry in table.leave_out for axis, label in entry.items()]
    unknown = [(axis, label, where) for axis, label, where in named if label not in known.get(axis, ())]
    return [
        f"{where} names {label!r}, which the axis {axis!r} lacks ({', '.join(known.get(axis, ['no such axis']))})"
        for axis, label, where in unknown
    ]
