"""Dice over annotated voxels only."""

import numpy as np
from torch import Tensor


def masked_counts(prediction: Tensor, target: Tensor, valid: Tensor) -> np.ndarray:
    """Count true positives, false positives and false negatives per structure where it is annotated.

    Args:
        prediction, target, valid: (B, C, D, H, W) bool.

    Returns:
        (3, C) integers.
    """
    axes = (0, 2, 3, 4)
    counted = (prediction & target, prediction & ~target, ~prediction & target)
    return np.stack([(voxels & valid).sum(axes).cpu().numpy() for voxels in counted])


def dice_of_counts(counts: np.ndarray) -> list[float]:
    """Return the Dice of each structure from (3, C) counts; nan where nothing was annotated or predicted."""
    true_positive, false_positive, false_negative = counts
    size = 2 * true_positive + false_positive + false_negative
    return [float(2 * tp / n) if n else float("nan") for tp, n in zip(true_positive, size, strict=True)]
