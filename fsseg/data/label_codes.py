"""The labels of one case as codes, one per occurring combination of structures, before they are numbered."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass
class LabelCodes:
    """Which structures every voxel belongs to.

    Attributes:
        codes: (z, y, x) int32.
        members: the structures of each code; code 0 belongs to none.
    """

    codes: np.ndarray
    members: list[frozenset[str]]

    def mask(self, name: str) -> np.ndarray:
        """Return the voxels of a structure, (z, y, x) bool."""
        return np.isin(self.codes, [code for code, names in enumerate(self.members) if name in names])

    def rename(self, where: np.ndarray, old: str, new: str) -> None:
        """Replace a structure by another in the voxels of a mask."""
        self._recode(where, {code: (names - {old}) | {new} for code, names in enumerate(self.members) if old in names})

    def add(self, where: np.ndarray, names: frozenset[str]) -> None:
        """Add structures in the voxels of a mask to what is there already."""
        present = np.unique(self.codes[where])
        self._recode(where, {int(code): self.members[code] | names for code in present})

    def remove(self, name: str) -> None:
        """Take a structure out everywhere."""
        self.members = [names - {name} for names in self.members]

    def numbered(self, integer_of: Callable[[frozenset[str]], int]) -> np.ndarray:
        """Return the label map with an integer per combination; only combinations that occur are asked for."""
        table = np.zeros(len(self.members), dtype=np.int64)
        for code in np.unique(self.codes):
            table[code] = integer_of(self.members[code])
        # More integers than 8 bits hold are refused once all cases are read; until then none may wrap around.
        return table.astype(np.min_scalar_type(table.max()))[self.codes]

    def _recode(self, where: np.ndarray, changes: Mapping[int, frozenset[str]]) -> None:
        successor = np.arange(len(self.members), dtype=np.int32)
        for code, names in changes.items():
            successor[code] = len(self.members)
            self.members.append(names)
        self.codes[where] = successor[self.codes[where]]


def codes_of_label_map(array: np.ndarray, meanings: Mapping[int, Iterable[str]]) -> LabelCodes:
    """Turn a label map into codes.

    Args:
        array: (z, y, x) integers, 0 or a key of `meanings`.
        meanings: integer -> its structures.
    """
    present = np.unique(array).tolist()
    table = np.zeros(max(present) + 1, dtype=np.int32)
    table[present] = np.arange(len(present))
    members = [frozenset(meanings.get(value, ())) for value in present]
    if present[0] == 0:
        return LabelCodes(table[array], members)
    return LabelCodes(table[array] + 1, [frozenset(), *members])


def codes_of_masks(shape: tuple[int, ...], masks: Iterable[tuple[frozenset[str], np.ndarray]]) -> LabelCodes:
    """Turn overlapping masks into codes.

    Args:
        shape: shape of the masks.
        masks: pairs of the structures that a mask stands for and the mask as bool array; read one at a time.
    """
    codes = LabelCodes(np.zeros(shape, dtype=np.int32), [frozenset()])
    for names, mask in masks:
        codes.add(mask, names)
    return codes
