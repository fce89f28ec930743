"""What leave-one-out predicted in a case, kept in few bytes for the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class KeptMasks:
    """Masks of some structures in one case.

    Attributes:
        names: the structures.
        shape: (D, H, W).
        bits: a row of packed voxels for each structure.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    bits: np.ndarray

    @classmethod
    def of(cls, names: tuple[str, ...], masks: np.ndarray) -> "KeptMasks":
        """Keep (structures, D, H, W) bool masks."""
        return cls(names, masks.shape[1:], np.packbits(masks.reshape(len(masks), -1), axis=1))

    def masks(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return structure -> (D, H, W) bool mask, of those of `names` that are there."""
        voxels, known = math.prod(self.shape), dict(zip(self.names, self.bits, strict=True))
        return {
            name: np.unpackbits(known[name], count=voxels).view(bool).reshape(self.shape)
            for name in names
            if name in known
        }

    def save(self, file: Path) -> None:
        """Write a file that `load` reads."""
        with file.open("wb") as stream:
            np.savez_compressed(stream, names=np.array(self.names), shape=np.array(self.shape), bits=self.bits)

    @classmethod
    def load(cls, file: Path) -> "KeptMasks | None":
        """Read a file; None where there is none, or what was killed has left half of it."""
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
                shape = tuple(int(size) for size in found["shape"])
                return cls(tuple(map(str, found["names"])), shape, found["bits"])
        except Exception:  # noqa: BLE001 - a damaged archive fails in any way, and only a picture is lost
            return None
