"""Pickles that lie beside weights, such as nnU-Net v1's plans.pkl, read without executing what they ask for."""

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.errors import FssegError

# Plain Python values need no class at all; numpy's arrays and scalars need these, under the names of two versions.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Stand for `_codecs.encode`, with which old pickles spell bytes, and always as latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(module, "scalar"): np.float64(0).__reduce__()[0] for module in _NUMPY_MODULES},
    **{(module, "_reconstruct"): np.empty(0).__reduce__()[0] for module in _NUMPY_MODULES},
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def read_side_pickle(path: Path) -> Any:
    """Return the content of a pickle of plain values and numpy arrays.

    Raises:
        FssegError: the pickle is damaged, or names anything else; nothing of it has been executed then.
    """
    try:
        with path.open("rb") as file:
            return _AllowListUnpickler(file).load()
    except Exception as error:  # noqa: BLE001 - a hostile or damaged file may fail in any way
        raise FssegError(
            f"{path} cannot be read: {error or type(error).__name__}\n"
            "  It is damaged, or holds objects that would execute code. To import the weights without it, move it away"
            " and give --plans where its content is needed."
        ) from None
