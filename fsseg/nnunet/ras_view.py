"""Preprocessed arrays turned to RAS, for pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.stored_orientation import stored_orientations

RAS = "RAS"
_AXIS_OF_LETTER = {"R": 2, "L": 2, "A": 1, "P": 1, "S": 0, "I": 0}  # of a RAS array, in z, y, x


class RasView:
    """Turns the preprocessed arrays of a case so that its axes run to superior, anterior and the patient's right.

    Args:
        base: whose plans the case is preprocessed with.
        image: its first channel, as it is stored.
    """

    def __init__(self, base: ModelFolder, image: Path) -> None:
        code = next(iter(stored_orientations(base, {"case": image})), RAS)
        of_file = np.argsort(base.plans_manager().transpose_forward)  # axis of z, y and x, as the reader gives them
        source = {_AXIS_OF_LETTER[letter]: int(of_file[2 - place]) for place, letter in enumerate(code)}
        backwards = {_AXIS_OF_LETTER[letter]: letter not in RAS for letter in code}
        self._axes = [source[axis] for axis in range(3)]
        self._steps = tuple(slice(None, None, -1 if backwards[axis] else 1) for axis in range(3))
        self.spacing_zyx_mm = self.ordered(base.configuration_manager().spacing)

    def turned(self, array: np.ndarray) -> np.ndarray:
        """Return a (D, H, W) array of the plans' axis order as a view in RAS."""
        return array.transpose(self._axes)[self._steps]

    def ordered(self, of_axes: Sequence[float]) -> tuple[float, ...]:
        """Return numbers that belong to the axes of the plans in the order of z, y, x."""
        return tuple(float(of_axes[axis]) for axis in self._axes)
