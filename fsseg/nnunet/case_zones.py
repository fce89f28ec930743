"""On which slices of a preprocessed case its structures are annotated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fsseg.config.errors import UsageError
from fsseg.data.structures import CaseAnnotation
from fsseg.data.volumes import annotation_zones
from fsseg.nnunet.contents import CaseProperties

INFERIOR_SUPERIOR_AXIS = 0  # of arrays that were read in RAS orientation


def zone_axis(plans: Any) -> int:
    """Return which axis of a preprocessed array runs from inferior to superior."""
    return list(plans.transpose_forward).index(INFERIOR_SUPERIOR_AXIS)


def case_zones(
    annotation: CaseAnnotation, names: tuple[str, ...], shape: Sequence[int], properties: CaseProperties, plans: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the zones of a preprocessed case (see `annotation_zones`).

    Args:
        annotation: what the case annotates.
        names: structures in channel order.
        shape: (D, H, W) of the preprocessed case.
        properties: nnU-Net's properties of the case, with the crop made before resampling.
        plans: nnU-Net's PlansManager.

    Raises:
        UsageError: the case has z-extents, which count slices in RAS, but the plans read images in stored orientation.
    """
    reader = plans.image_reader_writer_class.__name__
    if annotation.z_extent.keys() & set(names) and not reader.endswith("WithReorient"):
        raise UsageError(
            "The dataset has structures contoured on part of their extent, counted in slices from inferior to superior,"
            f" but the plans read images with {reader} in whatever orientation they are stored.\n"
            "  Use plans whose image_reader_writer is SimpleITKIOWithReorient."
        )
    axis = zone_axis(plans)
    first, last = properties["bbox_used_for_cropping"][axis]
    centres = (np.arange(shape[axis]) + 0.5) * (last - first) / shape[axis]
    return annotation_zones(annotation, names, np.floor(centres).astype(int) + first)
