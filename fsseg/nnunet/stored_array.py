"""Preprocessed arrays on disk that hold no file open between two reads."""

import os
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from fsseg.config.errors import FssegError

_MAPPED = {} if os.name == "nt" else {"mmap_mode": "r"}  # as nnU-Net opens them


class StoredArray:
    """An array of nnU-Net's .b2nd files that is opened for each read and closed after it.

    An open file a case and array would reach the usual limit of 1,024 descriptors with 512 cases. Opening takes a few
    percent of the time that cutting a crop takes, so nothing is kept open.

    Args:
        opened: the array as nnU-Net opened it; it is not kept.
    """

    def __init__(self, opened: blosc2.NDArray) -> None:
        self.path = Path(opened.urlpath)
        self.shape: tuple[int, ...] = opened.shape
        self.dtype: np.dtype = opened.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read a part of the array."""
        return self._open()[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the whole array."""
        return self._open()[:].astype(dtype or self.dtype, copy=False)

    def _open(self) -> blosc2.NDArray:
        try:
            return blosc2.open(urlpath=str(self.path), mode="r", dparams={"nthreads": 1}, **_MAPPED)
        except RuntimeError as error:
            self.path.open("rb").close()  # says what it is where it is no damage, such as too many open files
            message = f"Preprocessed file {self.path} is damaged: {error}\n  Preprocess its case again."
            raise FssegError(message) from None


def closed(array: Any) -> Any:
    """Return an array that holds no file open, where nnU-Net gave one of its .b2nd files."""
    return StoredArray(array) if isinstance(array, blosc2.NDArray) else array
