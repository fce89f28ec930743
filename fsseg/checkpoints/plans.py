"""nnU-Net plans of an imported network: how its weights expect spacing, orientation and intensities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fsseg.models.networks import ArchitectureBlock
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.normalization import STATISTICS

CONFIGURATION = "3d_fullres"
_TRANSPOSE = {"xyz": [2, 1, 0], "zyx": [0, 1, 2]}


@dataclass(frozen=True)
class Intensities:
    """How nnU-Net's CTNormalization scales HU: clip to [low, high], subtract `mean`, divide by `std`."""

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def window(cls, low: float, high: float) -> "Intensities":
        """Return the scaling of the HU window [low, high] to [0, 1]."""
        return cls(mean=low, std=high - low, low=low, high=high)

    def properties(self) -> dict[str, float]:
        """Return nnU-Net's intensity statistics of a channel; minimum, maximum and median are not read by it."""
        return {
            "mean": self.mean,
            "std": self.std,
            "percentile_00_5": self.low,
            "percentile_99_5": self.high,
            "min": self.low,
            "max": self.high,
            "median": (self.low + self.high) / 2,
        }


ABDOMEN_WINDOW = Intensities.window(-175.0, 250.0)
FULL_WINDOW = Intensities.window(-1000.0, 1000.0)


@dataclass(frozen=True)
class NetworkInput:
    """The images that a network takes.

    Attributes:
        spacing: voxel size in mm, in the order of `axes`.
        patch: in voxels, in the order of `axes`.
        intensities: of each image channel; None is z-scoring of each image.
        axes: order in which the network reads the axes of an image in RAS: "xyz" is MONAI's, "zyx" nnU-Net's.
    """

    spacing: Sequence[float]
    patch: Sequence[int]
    intensities: Sequence[Intensities | None]
    axes: Literal["xyz", "zyx"]


def make_plans(
    name: str, description: str, architecture: ArchitectureBlock, images: NetworkInput, batch_size: int = 2
) -> PlansContent:
    """Return plans with one configuration, 3d_fullres.

    Args:
        name: name of the plans.
        description: what the weights are and expect, in a sentence.
        architecture: nnU-Net's architecture block.
        images: that it takes.
        batch_size: patches a step.
    """
    schemes = ["ZScoreNormalization" if entry is None else "CTNormalization" for entry in images.intensities]
    configuration = {
        "data_identifier": f"{name}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(images.patch),
        "median_image_size_in_voxels": list(images.patch),
        "spacing": list(images.spacing),
        "normalization_schemes": schemes,
        "use_mask_for_norm": [False] * len(schemes),
        **_resampling(order=1 if images.axes == "xyz" else 3),  # MONAI's, or nnU-Net's
        "architecture": architecture,
        "batch_dice": False,
    }
    return {
        "description": description,
        "dataset_name": "",
        "plans_name": name,
        "original_median_spacing_after_transp": list(images.spacing),
        "original_median_shape_after_transp": list(images.patch),
        "image_reader_writer": "SimpleITKIOWithReorient",
        "transpose_forward": _TRANSPOSE[images.axes],
        "transpose_backward": _TRANSPOSE[images.axes],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "imported by fsseg",
        "label_manager": "LabelManager",
        STATISTICS: _statistics(images.intensities),
    }


def _statistics(intensities: Sequence[Intensities | None]) -> dict[str, dict[str, float]]:
    return {str(channel): {} if entry is None else entry.properties() for channel, entry in enumerate(intensities)}


def _resampling(order: int) -> dict[str, Any]:
    """Return how nnU-Net is to resample: images by splines of an order, masks and probabilities linearly."""
    function = "resample_data_or_seg_to_shape"
    kwargs = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    return {
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_data_kwargs": {**kwargs, "order": order},
        "resampling_fn_seg_kwargs": {**kwargs, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": {**kwargs, "order": 1},
    }
