"""Checkpoints of nnU-Net: one strict model of what is read of them."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, BeforeValidator, Field, StrictFloat, StrictInt, StrictStr
from torch import Tensor

from fsseg.config.base import FileModel, validated
from fsseg.config.errors import FssegError, UsageError, first_of, shown
from fsseg.config.recipes import LEAST_TILE_STEP
from fsseg.nnunet.checkpoint_file import require_intact_weights
from fsseg.nnunet.contents import CheckpointContent
from fsseg.training.torch_file import read_torch_file

_SHOWN = 3


def problems_of_tensors(weights: Any) -> str:
    """Return why a mapping is no state dict that a network could load, "" if it is one."""
    if not isinstance(weights, dict):
        return f"must map names to tensors, got a {type(weights).__name__}"
    unnamed = [shown(name) for name in weights if not isinstance(name, str)]
    if unnamed:
        return f"must have names as keys, got {first_of(unnamed, _SHOWN)}"
    others = [f"{name}: {type(value).__name__}" for name, value in weights.items() if not isinstance(value, Tensor)]
    if others:
        return f"must hold tensors, got {first_of(others, _SHOWN)}"
    # Tensors that a network's own cannot be filled with; meta tensors have no values.
    odd = [name for name, t in weights.items() if t.layout != torch.strided or t.is_quantized or t.is_meta]
    return f"must hold dense tensors, not sparse or quantised ones, got {first_of(odd, _SHOWN)}" if odd else ""


def _state_dict(weights: Any) -> Any:
    problem = problems_of_tensors(weights)
    if problem:
        raise ValueError(problem)
    return weights


def _axes(axes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"must be some of the axes 0, 1 and 2, or None, got {shown(axes)}")
    return tuple(axes)


class InitArguments(FileModel):
    """What nnU-Net's trainer was made with."""

    configuration: StrictStr


class NnunetCheckpoint(FileModel):
    """A checkpoint as nnU-Net's trainer writes it.

    Attributes:
        network_weights: names -> dense tensors.
        init_args: of the trainer.
        trainer_name: class of the trainer.
        inference_allowed_mirroring_axes: axes that a prediction may flip.
        inference_tile_step_size: of fsseg: step of the sliding window, as a share of the patch.
    """

    unlike: ClassVar[str] = "not an nnU-Net checkpoint, or damaged"

    network_weights: Annotated[Any, BeforeValidator(_state_dict)]
    init_args: InitArguments
    trainer_name: StrictStr | None = None
    inference_allowed_mirroring_axes: Annotated[tuple[StrictInt, ...], AfterValidator(_axes)] | None = None
    inference_tile_step_size: StrictFloat = Field(default=0.5, ge=LEAST_TILE_STEP, le=1)


def read_checkpoint(file: Path) -> CheckpointContent:
    """Return the content of a checkpoint that nnU-Net or fsseg wrote, with weights that are whole.

    Raises:
        UsageError, FssegError: as `read_torch_file`, `checked_checkpoint` and `require_intact_weights`.
    """
    content = read_torch_file(file)
    checked_checkpoint(content, file)
    require_intact_weights(content, file)
    return content


def checked_checkpoint(content: CheckpointContent, file: Path) -> NnunetCheckpoint:
    """Return what is read of a checkpoint, or name all problems at once.

    Raises:
        UsageError: it is none of nnU-Net: weights or arguments are missing, so another file was given.
        FssegError: it is one, and damaged.
    """
    weights, arguments = content.get("network_weights"), content.get("init_args")
    is_other = not isinstance(weights, dict) or not isinstance(arguments, dict) or "configuration" not in arguments
    return validated(NnunetCheckpoint, content, str(file), UsageError if is_other else FssegError)
