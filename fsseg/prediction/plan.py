"""What a prediction does, before and after it is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fsseg.config.results import Result
from fsseg.prediction.inputs import PredictionInputs
from fsseg.prediction.model import PredictionModel


@dataclass(frozen=True)
class PredictPlan(Result):
    """What a prediction would do.

    Attributes:
        run: the model folder that is run, or that of the base.
        checkpoints, adapters: the files with the weights.
        cases: how many are segmented.
        not_segmented: case -> why it is skipped.
        ignored: names of files and folders that are no cases.
        structures: in the order of their channels.
        mirroring_axes: axes of the flips that are averaged.
        tile_step_size: step of the sliding window as a share of the patch.
        finished_before: cases that a stopped prediction had finished.
        out: the folder with the label maps.
    """

    run: Path
    checkpoints: tuple[Path, ...]
    adapters: tuple[Path, ...]
    cases: int
    not_segmented: Mapping[str, str]
    ignored: tuple[str, ...]
    structures: tuple[str, ...]
    mirroring_axes: tuple[int, ...]
    tile_step_size: float
    finished_before: int
    out: Path


def plan_of(
    chosen: PredictionModel, inputs: PredictionInputs, bad: Mapping[str, str], finished_before: int, out: Path
) -> PredictPlan:
    """Return what is segmented by what.

    Args:
        chosen: what segments.
        inputs: the cases.
        bad: case -> why it is skipped.
        finished_before: cases that a stopped prediction had finished.
        out: the folder with the label maps.
    """
    model = chosen.model
    return PredictPlan(
        run=model.path,
        checkpoints=chosen.checkpoints,
        adapters=chosen.adapters,
        cases=len(inputs.cases) - len(bad),
        not_segmented=bad,
        ignored=inputs.ignored,
        structures=model.structures.names,
        mirroring_axes=tuple(model.mirroring_axes or ()),
        tile_step_size=model.tile_step_size,
        finished_before=finished_before,
        out=out,
    )
