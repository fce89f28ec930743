"""The seconds and the disk of the runs of a table that are yet to be made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from fsseg.adaptation.step_times import feature_seconds, tiles_of, training_seconds
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.experiments.costs.bases import SampleBase
from fsseg.experiments.costs.cases import ImageSize, TestCases
from fsseg.experiments.costs.kinds import Kind
from fsseg.experiments.costs.measure import KindCost
from fsseg.experiments.definition.grid import Cell
from fsseg.experiments.definition.table_file import Scoring
from fsseg.experiments.workspace import RunFolder
from fsseg.methods.registry import method_class
from fsseg.training.feature_store import MOST_GIB
from fsseg.training.memory import MIB

# Of a compressed label map, measured on head and neck CT with seven structures.
_BYTES_OF_A_VOXEL = 0.004


Handling = Callable[[SampleBase, Sequence[str], ImageSize], float]


@dataclass(frozen=True)
class Disk:
    """What files take, in MiB.

    Attributes:
        models: of the runs.
        predictions: of their test cases.
        features: kept on disk for other runs.
    """

    models: float = 0.0
    predictions: float = 0.0
    features: float = 0.0

    def __add__(self, other: "Disk") -> "Disk":
        """Return both together; features stay below their limit."""
        features = min(1024 * MOST_GIB, self.features + other.features)
        return Disk(self.models + other.models, self.predictions + other.predictions, features)


class RunCosts:
    """Says what runs cost, one after the other: features that an earlier one makes cost a later one nothing.

    Args:
        scoring: of the table.
        cases: target -> its test cases.
        handling: returns the seconds of a prediction beside the network.
        shares_features: whether features are kept on disk.
    """

    def __init__(
        self, scoring: Scoring, cases: Mapping[str, TestCases], handling: Handling, *, shares_features: bool
    ) -> None:
        self._scoring, self._cases, self._handling, self._shares = scoring, cases, handling, shares_features
        self._pools: set[str] = set()

    def add(self, kind: Kind, cost: KindCost, cell: Cell) -> tuple[float, Disk]:
        """Return the seconds that a run takes, if it takes all steps of its recipe, and its disk."""
        assert kind.base is not None  # it was measured
        cases = self._cases[cell.target]
        seconds = self._prediction_seconds(kind.base, cost, cell)
        disk = Disk(cost.model_mib, cases.number * cases.voxels * _BYTES_OF_A_VOXEL / MIB)
        if cell.is_zero_shot:
            return seconds, disk
        recipe, free = cell.settings.recipe.for_cases(cell.settings.shots), cost.training_free
        seconds += training_seconds(recipe, cost.step, batch_size=cost.batch_size, training_free=free)
        if self._shares and cost.feature_mib:
            if self._is_first(kind.base, cell):
                return seconds, replace(disk, features=recipe.feature_crops * cost.feature_mib)
            seconds -= feature_seconds(recipe, cost.step, cost.batch_size, training_free=free)
        return seconds, disk

    def _prediction_seconds(self, base: SampleBase, cost: KindCost, cell: Cell) -> float:
        cases, recipe = self._cases[cell.target], cell.settings.recipe
        step = self._scoring.tile_step_size or recipe.tile_step_size
        tiles = fmean(tiles_of(base.shape(size.extent_mm), base.patch, step) for size in cases.sizes)
        pretrained = cell.is_zero_shot or method_class(cell.settings.method).uses_pretrained
        flips = base.flips(recipe, cell.settings.structures, uses_pretrained=pretrained)
        network = tiles * cost.tile_seconds * (flips if self._scoring.mirroring else 1)
        return cases.number * (network + self._handling(base, cell.settings.structures, cases.middle))

    def _is_first(self, base: SampleBase, cell: Cell) -> bool:
        """Return whether a run computes the features that it reads."""
        settings = cell.settings
        crops = settings.recipe.model_dump(include=_DECIDES_CROPS)
        where = (cell.target, cell.base.name, cell.base.pretrain, cell.cases, settings.shots, settings.seed)
        pool = str((where, sorted(crops.items()), base.facts))
        is_first = pool not in self._pools
        self._pools.add(pool)
        return is_first


_DECIDES_CROPS = {
    *("foreground_probability", "crop_jitter", "crop_centres", "cut_to_body", "crops_per_volume"),
    *("augmentation", "mirroring", "precision"),
}


def true_seconds(run: RunFolder) -> float:
    """Return what a finished run took: adaptation, predictions and scores."""
    scores = run.metrics.with_suffix(f".{MANIFEST_NAME}")
    files = (run.adaptation / MANIFEST_NAME, run.predictions / MANIFEST_NAME, scores)
    return float(sum(read_json(file)["seconds"] for file in files if file.is_file()))
