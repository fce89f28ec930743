"""Preprocessed arrays on disk that hold no file open between two reads, and nothing but an array."""

import os
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from fsseg.config.errors import FssegError

_MAPPED = {} if os.name == "nt" else {"mmap_mode": "r"}  # as nnU-Net opens them
# What blosc2 would rebuild from names, expressions and code in the file; versions before 4.14.1 do so without asking.
_RECIPES = (b"LazyArray", b"proxy-source", b"b2o")
_MAGIC = b"b2frame\0"
_LENGTH = slice(12, 16)  # where a file says how long its header is


class StoredArray:
    """An array of nnU-Net's .b2nd files that is opened for each read and closed after it.

    An open file a case and array would reach the usual limit of 1,024 descriptors with 512 cases. Opening takes a few
    percent of the time that cutting a crop takes, so nothing is kept open.

    Args:
        path: the file.

    Raises:
        FssegError: it is damaged, or holds something else than an array.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _require_array(path)
        opened = self._open()
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


def _require_array(path: Path) -> None:
    """Refuse what blosc2 would execute or fetch, by the header of a file, before blosc2 sees it."""
    if not path.is_file():
        raise FssegError(f"Preprocessed file {path} is missing.\n  Preprocess its case again.")
    with path.open("rb") as file:
        start = file.read(_LENGTH.stop)
        header = start + file.read(max(0, int.from_bytes(start[_LENGTH], "big") - len(start)))
    if _MAGIC not in start:
        raise FssegError(f"Preprocessed file {path} is damaged: it is no array.\n  Preprocess its case again.")
    found = [name.decode() for name in _RECIPES if name in header]
    if found:
        raise FssegError(
            f"Preprocessed file {path} is refused: it holds no array, but a recipe to compute or fetch one"
            f" ({', '.join(found)}), which may execute code.\n  Preprocess its case again."
        )
