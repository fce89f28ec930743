"""What a run of a kind costs: a few real steps of its network with random weights, and the prediction of a patch."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from fsseg.adaptation.cost import expected_demand
from fsseg.adaptation.cost_sample import sample_start, with_random_weights
from fsseg.adaptation.start import Start
from fsseg.adaptation.step_times import StepTimes, measured_times, tile_seconds
from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.errors import FssegError
from fsseg.experiments.costs.bases import SampleBase
from fsseg.experiments.definition.cell_settings import ZERO_SHOT
from fsseg.models.parts import parts_of
from fsseg.training.cost import mib_of
from fsseg.training.memory import MIB
from fsseg.training.placement import cpu_threads

_LONG_SECONDS = 5.0  # of a step on one crop, beyond which one is enough
_FLOAT_BYTES = 4
_NO_STEP = StepTimes(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class KindCost:
    """What was measured of a kind of runs.

    Attributes:
        step: times of a step.
        tile_seconds: to predict a patch, without flips.
        batch_size: crops of a step.
        training_free: whether no step is taken.
        model_mib: disk of the result.
        feature_mib: disk of the features of a crop; 0 with the network in the loop.
    """

    step: StepTimes
    tile_seconds: float
    batch_size: int
    training_free: bool
    model_mib: float
    feature_mib: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def of(cls, values: Any) -> "KindCost | None":
        """Return what `as_dict` gave; None for something else, such as that of another version of fsseg."""
        try:
            return cls(**{**values, "step": StepTimes(**values["step"])})
        except (KeyError, TypeError):
            return None


def measured_kind(base: SampleBase, settings: AdaptationSettings, device: torch.device, threads: int) -> KindCost:
    """Measure a kind of runs.

    With one thread on a CPU the time of this process counts, so that what else the machine does takes no part.

    Args:
        base: its network.
        settings: of one of its runs.
        device: where it runs.
        threads: of a run on a CPU.

    Raises:
        FssegError: a step does not fit into memory, or the method is not defined on the network.
    """
    as_it_is = settings.method == ZERO_SHOT
    settings = settings.model_copy(update={"method": "full"}) if as_it_is else settings
    with cpu_threads(threads):
        start = sample_start(settings, with_random_weights(base.model(settings.structures)), device)
        _require_memory(start)
        wall, own = time.perf_counter(), time.process_time()
        step = _NO_STEP if as_it_is else measured_times(start, _LONG_SECONDS)
        tile = tile_seconds(start)
        wall, own = time.perf_counter() - wall, time.process_time() - own
    share = min(1.0, own / wall) if device.type == "cpu" and threads == 1 else 1.0
    return KindCost(
        step=_times(step, share),
        tile_seconds=round(share * tile, 4),
        batch_size=start.job.batch_size,
        training_free=start.job.method.training_free,
        model_mib=0.0 if as_it_is else round(_model_mib(start), 3),
        feature_mib=0.0 if step.feature_seconds_per_crop is None else round(_feature_mib(start), 3),
    )


def _require_memory(start: Start) -> None:
    """Require room for a step on one crop, which is all that a long one is measured by."""
    single = replace(start.job, recipe=start.job.recipe.model_copy(update={"batch_size": 1}))
    short = expected_demand(replace(start, job=single), 1).shortages()
    if short:
        raise FssegError(f"It cannot be measured here. {' '.join(short)}")


def _times(step: StepTimes, share: float) -> StepTimes:
    return StepTimes(**{name: value and round(share * value, 4) for name, value in asdict(step).items()})


def _model_mib(start: Start) -> float:
    """Return the disk of a result: the adapter, and where it merges all weights with it."""
    network = start.network.network
    adapter = mib_of(p for p in network.parameters() if p.requires_grad)
    return adapter + (0.0 if start.job.method.not_merged_because else mib_of(network.parameters()))


def _feature_mib(start: Start) -> float:
    voxels = torch.Size(start.job.patch_size).numel()
    return parts_of(start.network.network).head.in_channels * voxels * _FLOAT_BYTES / MIB
