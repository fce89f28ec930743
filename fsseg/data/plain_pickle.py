"""Pickles of plain values, as nnU-Net writes beside weights and cases, read without executing what they ask for."""

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.errors import FssegError

# Plain Python values need no class at all; numpy's arrays and scalars need these, under the names of two versions.
_BUILTINS = ("builtins", "__builtin__")  # in pickles of protocol 2 under the name of Python 2
_NUMPY_PACKAGES = ("numpy.core", "numpy._core")


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Stand for `_codecs.encode`, with which old pickles spell bytes, and always as latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode(encoding)


def _no_bytes() -> bytes:
    """Stand for `bytes`, with which old pickles spell none, and only without a size."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(package, "set"): set for package in _BUILTINS},
    **{(package, "bytes"): _no_bytes for package in _BUILTINS},
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"{package}.multiarray", "scalar"): np.float64(0).__reduce__()[0] for package in _NUMPY_PACKAGES},
    **{(f"{package}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for package in _NUMPY_PACKAGES},
    # How arrays are written by protocol 5, Python's default from 3.14 on.
    **{(f"{package}.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0] for package in _NUMPY_PACKAGES},
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def read_plain_pickle(path: Path, advice: str) -> Any:
    """Return the content of a pickle of plain values and numpy arrays.

    Args:
        path: the file.
        advice: what to do about a file that cannot be read, for the message.

    Raises:
        FssegError: the pickle is damaged, or names anything else; nothing of it has been executed then.
    """
    try:
        with path.open("rb") as file:
            return _AllowListUnpickler(file).load()
    except OSError:  # says itself what it is, such as too many open files
        raise
    except Exception as error:  # noqa: BLE001 - a hostile or damaged file may fail in any way
        reason = str(error) or type(error).__name__
        raise FssegError(
            f"{path} cannot be read: {reason}\n  It is damaged, or holds objects that would execute code. {advice}"
        ) from None
