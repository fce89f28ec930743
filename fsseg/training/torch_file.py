"""Files of torch: written complete or not at all, read without executing pickles, and refused where damaged."""

import errno
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsseg.config.errors import FssegError, first_of, shown_line
from fsseg.config.file_kinds import kind_of_file, names_in_pickle, pickle_protocol
from fsseg.training.torch_archive import is_archive, may_hold_weights, pickle_of, require_intact_archive

_OPTIONS = (SimpleNamespace, "argparse.Namespace")  # of a training script; only this package's commands parse any
_BEFORE_ARCHIVES = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch began its files before 1.6
_LATEST_PROTOCOL = 3  # of a pickle that torch's reader knows, which executes nothing
_OF_TENSORS = ("torch._utils.", "torch.storage.", "collections.OrderedDict")  # which every file of weights names
_STORAGE = re.compile(r"torch\.\w+Storage$")
_REFUSED_NAME = re.compile(r"GLOBAL (\S+) ")  # in torch's message
_REASON = re.compile(r"WeightsUnpickler error:\s*([^\n]+)")
_MOST_TIMES = 16  # that tensors may be larger than their file; nnU-Net's networks name each about four times
_SHOWN = 3


def write_torch_file(path: Path, content: Any) -> None:
    """Write a file that `torch.load` reads; complete or absent.

    Raises:
        OSError: not all of it could be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    except RuntimeError as error:  # torch's writer does not say that the disk is full
        raise OSError(errno.EIO, "not all bytes could be written, as on a full disk", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_torch_file(path: Path) -> dict[str, Any]:
    """Load a mapping that torch saved, on the CPU, without executing pickled code.

    Only tensors, plain containers, the numpy scalars and arrays of training logs, and the options of a training
    script are accepted.

    Raises:
        FssegError: the file is damaged, no checkpoint, holds anything else, or would take far more memory than it is.
    """
    if not path.is_file():
        raise FssegError(f"{path} is no checkpoint: it is no regular file.\n  Give the file that torch.save wrote.")
    in_archive = is_archive(path)
    if not (may_hold_weights(path) if in_archive else _is_before_archives(path)):
        raise _no_checkpoint(path)
    if in_archive:
        require_intact_archive(path)
    content = _loaded(path, in_archive=in_archive)
    if not isinstance(content, dict):
        raise FssegError(f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a mapping.")
    _require_bounded(content, path)
    return content


def _loaded(path: Path, *, in_archive: bool) -> Any:
    try:
        with torch.serialization.safe_globals([*_numpy_values(), _OPTIONS]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how a file was pickled; if it matters, loading fails
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile or damaged file may fail in any way
        reason = _why_not_loaded(error, path, in_archive=in_archive)
        raise FssegError(
            f"{path} cannot be loaded as a checkpoint: {reason}\n"
            "  The file is damaged, is no checkpoint, or holds objects that would execute code."
        ) from None


def _is_before_archives(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BEFORE_ARCHIVES)) == _BEFORE_ARCHIVES


def _no_checkpoint(path: Path) -> FssegError:
    kind = kind_of_file(path)
    advice = "Give the file that torch.save wrote."
    if kind.startswith("a pickle"):
        advice = f"torch.save did not write it, and it may hold objects that would execute code. {advice}"
    return FssegError(f"{path} is no checkpoint: it is {kind}.\n  {advice}")


def _why_not_loaded(error: Exception, path: Path, *, in_archive: bool) -> str:
    """Return in a line what keeps a file from being loaded; never torch's advice to execute it."""
    refused = _REFUSED_NAME.search(str(error))
    if refused:
        return f"it holds an object of {refused[1]}"
    pickle = pickle_of(path) if in_archive else b""
    if pickle_protocol(pickle) > _LATEST_PROTOCOL:
        others = [name for name in names_in_pickle(pickle) if not _is_of_tensors(name)]
        return (
            f"it was saved with pickle_protocol={pickle_protocol(pickle)}, which cannot be read without executing it;"
            f" save it again with 2, as torch does by default{_with(others)}"
        )
    found = _REASON.search(str(error))
    reason = found[1] if found else str(error).strip().split("\n")[0]
    return type(error).__name__ if not reason or "weights_only" in reason else shown_line(reason)


def _is_of_tensors(name: str) -> bool:
    return name.startswith(_OF_TENSORS) or _STORAGE.match(name) is not None


def _with(names: list[str]) -> str:
    return f". It holds objects of {first_of(names, _SHOWN)}" if names else ""


def _require_bounded(content: dict[str, Any], path: Path) -> None:
    """Refuse a file whose tensors repeat its bytes so often that they would fill the memory when they are used."""
    held = path.stat().st_size
    total = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(content))
    if total > _MOST_TIMES * held:
        raise FssegError(
            f"{path} is refused: its {held:,} bytes stand for tensors of {total:,} bytes.\n"
            "  Get it from its source again, or save it again without repeated or expanded tensors."
        )


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested containers once; a hostile file may nest them without end."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value


def _numpy_values() -> list[Any]:
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    # Their modules differ between numpy 1 and 2, and files written by either are read by both.
    rebuilders = (np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0])
    allowed: list[Any] = [np.dtype, np.ndarray, *rebuilders, *kinds]
    for package in ("numpy.core", "numpy._core"):
        allowed += [(function, f"{package}.multiarray.{function.__name__}") for function in rebuilders]  # type: ignore[union-attr]
    return allowed
