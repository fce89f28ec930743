"""Checkpoint files in nnU-Net's format: how they are written, and whether what was read is one, and whole."""

from pathlib import Path
from typing import Any

from torch import Tensor

from fsseg.config.errors import FssegError, UsageError, first_of
from fsseg.models.finite import not_finite
from fsseg.models.weights_hash import hash_of_weights
from fsseg.nnunet.contents import CheckpointContent
from fsseg.training.torch_file import write_torch_file

CHECKPOINT_NAME = "checkpoint_final.pth"
LATEST_NAME = "checkpoint_latest.pth"
STOCK_TRAINER = "nnUNetTrainer"
WEIGHTS_HASH_KEY = "network_weights_sha256"  # stock nnU-Net takes no notice of it
_SHOWN = 3
BEST_NAME = "checkpoint_best.pth"  # nnU-Net's choice by the validation of a fold


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
        WEIGHTS_HASH_KEY: hash_of_weights(weights),
        **extra,
    }
    write_torch_file(path, content)


def refuse_best(path: Path) -> None:
    """Raise `UsageError` if nnU-Net asks for the checkpoint that validated best: fsseg's trainers choose none."""
    if path.name == BEST_NAME:
        raise UsageError(
            f"There is no {BEST_NAME}: fsseg's trainers keep the last checkpoint and choose none by validation.\n"
            "  Leave --val_best out; --val validates the last one."
        )


def require_intact_weights(checkpoint: CheckpointContent, file: Path, sha256: str | None = None) -> None:
    """Refuse weights that are not those which were written, or that hold NaN.

    Checkpoints of fsseg state the hash of their weights. nnU-Net copies and reads them with it, and writes none itself:
    of its files the checksums of the archive speak, which every reader has looked at, and their numbers are finite.

    Args:
        checkpoint: content of the file, with network_weights.
        file: where it lies.
        sha256: hash of its weights, where it is known already.

    Raises:
        FssegError: the weights have another hash than the file states, or hold NaN or infinite values.
    """
    weights = checkpoint["network_weights"]
    stated = checkpoint.get(WEIGHTS_HASH_KEY)
    if stated is not None and stated != (sha256 or hash_of_weights(weights)):
        raise FssegError(
            f"{file} is damaged: its weights are not those that were written (their hash differs).\n"
            f"  Copy it again from where it was made. If you changed the weights yourself, delete {WEIGHTS_HASH_KEY!r}"
            " from the file."
        )
    bad = not_finite(weights)
    if bad:
        raise FssegError(
            f"{file} holds NaN or infinite values in {first_of(bad, _SHOWN)}.\n"
            "  It is damaged, or its training diverged: copy it again, or train again at a lower rate."
        )
