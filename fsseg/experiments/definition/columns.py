"""The columns of a table: structures, or weighted means of them; known or novel by the head of each base."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fsseg.experiments.definition.grid import used_targets
from fsseg.experiments.definition.paper import PRINTED_MEAN
from fsseg.experiments.definition.table_file import TableFile


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its heading.
        weights: structure -> its share of the mean; the shares add up to 1.
    """

    name: str
    weights: Mapping[str, float] = field(hash=False)


def columns_of(table: TableFile, known: Collection[str]) -> list[Column]:
    """Return the columns for a base whose head has the names `known`.

    A table that names its columns has these and their mean; where a column names others, no further mean. Another has
    every structure, the mean of those that the base knows and the mean of those that it does not.
    """
    if table.columns:
        return _named_columns(table)
    structures = [name for target in used_targets(table) for name in table.targets[target].structures]
    structures = list(dict.fromkeys(structures))
    parts = {"known": [n for n in structures if n in known], "novel": [n for n in structures if n not in known]}
    columns = []
    for kind, names in parts.items():
        columns += [mean_column(name, [name]) for name in names]
        columns += [mean_column(f"mean of {kind}", names)] if len(names) > 1 else []
    return columns


def mean_column(name: str, structures: Sequence[str]) -> Column:
    """Return a column of the mean of structures."""
    return Column(name, {structure: 1 / len(structures) for structure in structures})


def _named_columns(table: TableFile) -> list[Column]:
    known, named = set(table.structures), dict[str, Column]()
    for name, parts in table.columns.items():
        columns = [mean_column(part, [part]) if part in known else named[part] for part in parts]
        named[name] = _mean_of(name, columns)
    columns = list(named.values())
    nested = any(part not in known for parts in table.columns.values() for part in parts)
    return columns if nested or len(columns) == 1 else [*columns, _mean_of(PRINTED_MEAN, columns)]


def _mean_of(name: str, columns: Sequence[Column]) -> Column:
    weights: dict[str, float] = {}
    for column in columns:
        for structure, weight in column.weights.items():
            weights[structure] = weights.get(structure, 0.0) + weight / len(columns)
    return Column(name, weights)
