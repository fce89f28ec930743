"""The support cases as the report draws them: predicted by leave-one-out, or in one crop each."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fsseg.adaptation.estimate import predicted_masks
from fsseg.adaptation.job import Job
from fsseg.adaptation.outcome import Outcome
from fsseg.adaptation.start import Start
from fsseg.data.crops import CropSampler
from fsseg.data.volumes import Volume
from fsseg.nnunet.normalization import CT_SCHEME, STATISTICS
from fsseg.nnunet.ras_view import RasView
from fsseg.reporting.overlays import DrawnCase
from fsseg.training.placement import mixed_precision

_WINDOW_HU = (-160.0, 240.0)
_PERCENTILES = (0.5, 99.5)  # of an image that is no CT
MOST_DRAWN = 5
_MOST_STRUCTURES = 8
_MOST_VOXELS = 2**30  # of all masks, a byte each


def drawn_structures(outcome: Outcome) -> tuple[str, ...]:
    """Return the structures that are drawn."""
    return outcome.fitted.start.job.target.names[:_MOST_STRUCTURES]


def drawn_without(outcome: Outcome) -> dict[str, DrawnCase]:
    """Return the first cases, each as it is predicted by the training that left it out; fewer where they are large."""
    job, names, voxels = outcome.fitted.start.job, drawn_structures(outcome), 0
    drawn: dict[str, DrawnCase] = {}
    for volume in outcome.prepared.support.volumes[:MOST_DRAWN]:
        kept = outcome.held_out.get(volume.case)
        voxels += 2 * len(names) * math.prod(volume.shape)
        if kept is None or (drawn and voxels > _MOST_VOXELS):
            continue
        valid = {name: _valid(volume, channel) for channel, name in enumerate(names)}
        labels = np.asarray(volume.labels[0])
        reference = {name: _is(labels, name, job) & known for name, known in valid.items() if known.any()}
        drawn[volume.case] = _drawn(outcome, volume.case, np.asarray(volume.image[0]), reference, kept.masks(names))
    return drawn


def drawn_crops(outcome: Outcome) -> dict[str, DrawnCase]:
    """Return a crop of the first cases, each with what the network predicts in it: one forward pass a case."""
    start, drawn = outcome.fitted.start, {}
    sampler = CropSampler(start.volumes, start.job.patch_size, crop_size=start.job.patch_size, foreground_probability=1)
    for index, volume in enumerate(start.volumes[:MOST_DRAWN]):
        shown = next((name for name in start.job.target.names if name in volume.locations), None)
        if shown is None:
            continue
        image, labels = sampler.cut(sampler.middle(index, shown))
        known = volume.zone_annotated[labels[1].clip(0)].transpose(3, 0, 1, 2) & (labels[0] >= 0)
        names = start.job.target.names
        reference = {
            name: _is(labels[0], name, start.job) & known[channel]
            for channel, name in enumerate(names)
            if known[channel].any()
        }
        masks = dict(zip(names, _predicted(start, image), strict=True))
        drawn[volume.case] = _drawn(outcome, volume.case, image[0], reference, masks)
    return drawn


def _predicted(start: Start, image: np.ndarray) -> np.ndarray:
    """Return (structures, D, H, W) bool of a crop."""
    job, network = start.job, start.network.network.eval()
    with torch.no_grad(), mixed_precision(job.device, job.recipe.precision):
        logits = network(torch.from_numpy(image)[None].to(job.device))[0].float().cpu().numpy()
    return predicted_masks(logits, job)


def _drawn(
    outcome: Outcome, case: str, image: np.ndarray, reference: Mapping[str, Any], prediction: Mapping[str, Any]
) -> DrawnCase:
    base = outcome.fitted.start.job.base
    view = RasView(base, outcome.prepared.task.dataset.images(case)[0])
    return DrawnCase(
        image=view.turned(image),
        reference={name: view.turned(mask) for name, mask in reference.items()},
        prediction={name: view.turned(mask) for name, mask in prediction.items()},
        spacing_zyx_mm=view.spacing_zyx_mm,
        window=_window(outcome.fitted.start.job, image),
    )


def _window(job: Job, image: np.ndarray) -> tuple[float, float]:
    """Return the normalised values to draw black and white: soft tissue of a CT, else nearly all that occur."""
    values = (job.base.plans.get(STATISTICS) or {}).get("0")
    if job.base.configuration_manager().normalization_schemes[0] == CT_SCHEME and values:
        low, high = ((hu - values["mean"]) / values["std"] for hu in _WINDOW_HU)
    else:
        low, high = (float(value) for value in np.percentile(image, _PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _is(labels: np.ndarray, name: str, job: Job) -> np.ndarray:
    return np.isin(labels, job.target.structures.integers[name])


def _valid(volume: Volume, channel: int) -> np.ndarray:
    """Return the (D, H, W) voxels in which a structure is annotated."""
    of_slices = volume.zone_annotated[volume.zones, channel]
    shape = [1, 1, 1]
    shape[volume.zone_axis] = -1
    return np.broadcast_to(of_slices.reshape(shape), volume.shape)
