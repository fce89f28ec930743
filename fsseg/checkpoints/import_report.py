"""What `fsseg import` says about a checkpoint, as JSON values for its manifest."""

from collections.abc import Mapping
from typing import Any

from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Family, Translation
from fsseg.checkpoints.transfer import TransferReport
from fsseg.data.channels import channel_names
from fsseg.data.intensity_scale import BOUNDS
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import CT_SCHEME, STATISTICS


def expectations(model: ModelFolder) -> dict[str, Any]:
    """Return how a model expects its images: spacing, axes, patch and intensities."""
    configuration = model.configuration_manager()
    axes = "".join("zyx"[axis] for axis in model.plans["transpose_forward"])
    intensities = []
    for channel, scheme in enumerate(configuration.normalization_schemes):
        statistics = (model.plans.get(STATISTICS) or {}).get(str(channel)) or {}
        window = [statistics[key] for key in BOUNDS if key in statistics]
        intensities.append({"scheme": scheme, "window_hu": window if scheme == CT_SCHEME else None})
    return {
        "channels": list(channel_names(model.dataset_json)),
        "axes": axes,
        "spacing_mm": list(configuration.spacing),
        "patch": list(configuration.patch_size),
        "orientation": "RAS" if model.plans["image_reader_writer"].endswith("WithReorient") else "as stored",
        "intensities": intensities,
    }


def facts_of(family: Family, translation: Translation, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return where a checkpoint comes from: title, paper, licence, what supervised it, and its container."""
    return {
        "title": family.title,
        "reference": family.reference,
        "licence": translation.licence or family.licence,
        "supervised_on": None if family.supervised_on is None else list(family.supervised_on),
        "container": {"wrapper": checkpoint.wrapper, "prefixes": list(checkpoint.prefixes)},
    }


def summary_of(report: TransferReport) -> dict[str, Any]:
    """Return the report with counts instead of names; transfer.json has the names."""
    content: Mapping[str, Any] = report.as_dict()
    counted = ("matched", "dropped", "missing", "reshaped")
    return {key: len(value) if key in counted else value for key, value in content.items()}
