"""In which order runs are made: those that read features only come first, beside those that share the features."""

from collections.abc import Mapping

from fsseg.experiments.definition.grid import Cell
from fsseg.experiments.workspace import RunFolder
from fsseg.methods.registry import method_class


def features_first(runs: Mapping[RunFolder, Cell]) -> list[tuple[RunFolder, Cell]]:
    """Return runs in their order, but for those that read features only: they come first, by base, cases and seed.

    So a second method finds the features that the first one has just kept on disk, before others make room there.
    """
    groups: dict[str, list[tuple[RunFolder, Cell]]] = {}
    others = []
    for run, cell in runs.items():
        if reads_features(cell):
            settings = cell.settings
            drawn = (cell.target, cell.base.name, cell.base.pretrain, cell.cases, settings.shots, settings.seed)
            groups.setdefault(str(drawn), []).append((run, cell))
        else:
            others.append((run, cell))
    return [entry for group in groups.values() for entry in group] + others


def reads_features(cell: Cell) -> bool:
    """Return whether a run computes features once and trains on them."""
    settings = cell.settings
    return (
        not cell.is_zero_shot and method_class(settings.method).reads_features_only and not settings.recipe.fresh_crops
    )
