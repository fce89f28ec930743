"""Checkpoint files in nnU-Net's format: written complete or not at all, read without executing pickles."""

import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsseg.config.errors import FssegError, UsageError
from fsseg.training.torch_file import write_torch_file

CHECKPOINT_NAME = "checkpoint_final.pth"
LATEST_NAME = "checkpoint_latest.pth"
STOCK_TRAINER = "nnUNetTrainer"
_REFUSED_NAME = re.compile(r"GLOBAL (\S+) ")  # in torch's message
_OPTIONS = (SimpleNamespace, "argparse.Namespace")  # of a training script; only this package's commands parse any
_BEST_NAME = "checkpoint_best.pth"  # nnU-Net's choice by the validation of a fold


def save_checkpoint(
    path: Path, weights: dict[str, Tensor], configuration: str, axes: tuple[int, ...] | None, **extra: Any
) -> None:
    """Write a checkpoint in nnU-Net's format; complete or absent, and loadable with `weights_only=True`.

    Raises:
        OSError: not all of it could be written.
    """
    content = {
        "network_weights": weights,
        "trainer_name": STOCK_TRAINER,  # the plain class builds this network, so stock nnU-Net needs no plug-in
        "init_args": {"configuration": configuration},
        "inference_allowed_mirroring_axes": axes,
        **extra,
    }
    write_torch_file(path, content)


def load_checkpoint_safely(path: Path) -> dict[str, Any]:
    """Load a checkpoint without executing pickled code.

    Only tensors, plain containers, the numpy scalars and arrays of training logs, and the options of a training
    script are accepted.

    Raises:
        FssegError: the file is damaged, no checkpoint, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals([*_numpy_values(), _OPTIONS]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how a file was pickled; if it matters, loading fails
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile or damaged file may fail in any way
        reason = _why_not_loaded(error)
        raise FssegError(
            f"{path} cannot be loaded as a checkpoint: {reason}\n"
            "  The file is damaged, is no checkpoint, or holds objects that would execute code."
        ) from None
    if not isinstance(content, dict):
        raise FssegError(f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a mapping.")
    return content


def _why_not_loaded(error: Exception) -> str:
    """Return torch's reason in a line; of an object that is not allowed its name, without advice to load it anyway."""
    text = str(error)
    refused = _REFUSED_NAME.search(text)
    if refused:
        return f"it holds an object of {refused[1]}"
    return text.splitlines()[0] if text else type(error).__name__


def refuse_best(path: Path) -> None:
    """Raise `UsageError` if nnU-Net asks for the checkpoint that validated best: fsseg's trainers choose none."""
    if path.name == _BEST_NAME:
        raise UsageError(
            f"There is no {_BEST_NAME}: fsseg's trainers keep the last checkpoint and choose none by validation.\n"
            "  Leave --val_best out; --val validates the last one."
        )


def require_nnunet_checkpoint(checkpoint: dict[str, Any], file: Path) -> None:
    """Raise `UsageError` if the content of a checkpoint lacks what a model needs."""
    missing = [key for key in ("network_weights", "init_args") if not isinstance(checkpoint.get(key), dict)]
    if not missing and "configuration" not in checkpoint["init_args"]:
        missing = ["configuration"]
    if not missing and not all(isinstance(value, Tensor) for value in checkpoint["network_weights"].values()):
        missing = ["tensors"]
    if missing:
        raise UsageError(f"{file} is not an nnU-Net checkpoint: it has no {' and no '.join(missing)}.")


def _numpy_values() -> list[Any]:
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    # Their modules differ between numpy 1 and 2, and files written by either are read by both.
    rebuilders = (np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0])
    allowed: list[Any] = [np.dtype, np.ndarray, *rebuilders, *kinds]
    for package in ("numpy.core", "numpy._core"):
        allowed += [(function, f"{package}.multiarray.{function.__name__}") for function in rebuilders]  # type: ignore[union-attr]
    return allowed
