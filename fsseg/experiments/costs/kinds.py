"""The kinds of runs of a table: runs of one kind take equally long a step, whatever their seed, shots and cases."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from fsseg.experiments.costs.bases import SampleBase, sample_base
from fsseg.experiments.definition.cell_settings import SEED, SHOTS
from fsseg.experiments.definition.grid import REPLICATES, Cell
from fsseg.experiments.open_table import OpenTable
from fsseg.experiments.workspace import RunFolder

_KEY_LETTERS = 16
# Of a recipe: what changes neither a step nor the prediction of a patch.
_TAKES_NO_TIME = {
    *("learning_rates", "decoder_learning_rate", "head_learning_rate", "weight_decay", "new_head_rows", "loss"),
    *("foreground_probability", "crop_jitter", "crop_centres", "cut_to_body", "crops_per_volume", "mirroring"),
    *("gradient_clip_norm", "schedule", "max_steps", "made_for_cases", "epoch_steps", "plateau_first"),
    *("plateau_window", "plateau_patience", "plateau_improvement", "plateau_relative"),
    *("feature_crops", "feature_cache_gib", "tile_step_size"),
}


@dataclass(frozen=True)
class Kind:
    """Runs that take equally long a step.

    Attributes:
        key: what decides that.
        name: what tells it from the other kinds of the table.
        base: its network; None where only a file that is missing says what that is.
        runs: run -> its first cell.
    """

    key: str
    name: str
    base: SampleBase | None
    runs: dict[RunFolder, Cell]

    @property
    def unfinished(self) -> bool:
        """Whether a run is yet to be made."""
        return not all(run.is_done for run in self.runs)

    @property
    def sample(self) -> Cell:
        """One of its cells."""
        return next(iter(self.runs.values()))


def kinds_of(opened: OpenTable) -> list[Kind]:
    """Return the kinds of the cells that were asked for, in the order of the cells.

    Raises:
        UsageError: plans or a spec of a base do not exist, or are wrong.
    """
    bases = [sample_base(opened, choice) for choice in opened.bases]
    networks: dict[tuple[str, str], SampleBase | None] = {}
    groups: dict[tuple[str, str], dict[RunFolder, Cell]] = {}
    for cell in opened.cells:
        base = bases[opened.bases.index(cell.base)]
        changes = [entry for entry in cell.base.pretrain.items() if entry[0] != "fold"]  # folds take equally long
        group = f"{cell.base.name} {changes}", _key(base, cell)
        networks.setdefault(group, base)
        groups.setdefault(group, {}).setdefault(opened.run(cell), cell)
    names = _names(opened, [list(runs.values()) for runs in groups.values()])
    return [
        Kind(group[1], name, networks[group], runs) for (group, runs), name in zip(groups.items(), names, strict=True)
    ]


def pretraining_key(base: SampleBase, precision: str) -> str:
    """Return what decides how long a step of a pretraining takes."""
    return _hash([base.facts, len(base.structures), "pretraining", precision])


def handling_key(base: SampleBase, structures: int, size_xyz: Sequence[int], spacing_mm: Sequence[float]) -> str:
    """Return what decides how long a prediction takes beside the network."""
    return _hash([base.facts, base.shape(spacing_mm), structures, size_xyz, spacing_mm, "handling"])


def _key(base: SampleBase | None, cell: Cell) -> str:
    settings = cell.settings
    facts: list[object] = [base and base.facts, len(settings.structures), settings.method]
    if not cell.is_zero_shot:
        facts += [settings.decoder, settings.method_options, settings.recipe.model_dump(exclude=_TAKES_NO_TIME)]
    return _hash(facts)


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:_KEY_LETTERS]


def _names(opened: OpenTable, groups: Sequence[Sequence[Cell]]) -> list[str]:
    """Name each kind by the labels that all of its cells have and that some other kind lacks."""
    own = []
    for cells in groups:
        axes = [axis for axis in cells[0].labels if axis not in (*REPLICATES, SEED, SHOTS)]
        labels = {axis: {cell.labels[axis] for cell in cells} for axis in axes}
        said = {axis: next(iter(found)) for axis, found in labels.items() if len(found) == 1}
        said.setdefault("base", cells[0].base.name)
        own.append({**said, "structures": str(len(cells[0].settings.structures))})
    varied = {axis for said in own for axis, label in said.items() if any(other.get(axis) != label for other in own)}
    return [_name(said, varied) for said in own]


def _name(said: dict[str, str], varied: set[str]) -> str:
    words = {"method": "{}", "base": "{}", "structures": "{} structures"}
    parts = [words.get(axis, axis + " {}").format(label) for axis, label in said.items() if axis in varied]
    return ", ".join(parts) or said.get("method", "all")
