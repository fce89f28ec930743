"""adapter.safetensors: what distinguishes an adapted network from its base, with what is needed to apply it."""

import errno
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fsseg.config.base import StrictModel, validated
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import Activation
from fsseg.methods.contract import DecoderChoice

ADAPTER_NAME = "adapter.safetensors"
FORMAT_VERSION = 1
_KEY = "fsseg"


class AdapterInfo(StrictModel):
    """The header of an adapter file.

    Attributes:
        method: name of the method, with its `options` and `decoder` choice.
        structures: adapted structures in channel order, with the base's head row each started from (None: novel).
        integers: the integers of each structure in the label maps that the adapted network writes.
        activation: of the head; with "softmax" a background row comes before those of the structures.
        mirroring_axes: axes that test-time mirroring may flip; none where the training had no flips.
        tile_step_size: step of the sliding window as a share of the patch, as the recipe has it.
        base_sha256: hash of the base's weights; the adapter fits no other base.
        base_licence: licence of the base, which goes on with the adapter.
        support: support cases.
        ranks: effective rank of every layer with a low-rank update, at the end of training.
        training: steps, final loss, and whether the loss reached its plateau; no times, so that equal trainings give
            equal files.
        estimate: DSC per structure that leave-one-out over the support cases expects; None if it was not asked for.
    """

    format_version: int = FORMAT_VERSION
    method: str
    options: dict[str, Any]
    decoder: DecoderChoice
    structures: dict[str, int | None]
    integers: dict[str, tuple[int, ...]]
    activation: Activation = "sigmoid"
    mirroring_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...]
    tile_step_size: float = Field(gt=0, le=1)
    base_sha256: str
    base_licence: str
    support: tuple[str, ...]
    ranks: dict[str, int] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    estimate: dict[str, float] | None = None


def save_adapter(folder: Path, state: dict[str, Tensor], info: AdapterInfo) -> None:
    """Write adapter.safetensors; complete or absent.

    Raises:
        OSError: not all of it could be written.
    """
    temporary = folder / (ADAPTER_NAME + ".tmp")
    try:
        save_file(state, temporary, metadata={_KEY: info.model_dump_json()})
        temporary.replace(folder / ADAPTER_NAME)
    except SafetensorError as error:  # also of a full disk
        raise OSError(errno.EIO, str(error), str(folder / ADAPTER_NAME)) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_adapter(path: Path) -> tuple[dict[str, Tensor], AdapterInfo]:
    """Read an adapter file.

    Raises:
        FssegError: the file is damaged or no adapter.
        UsageError: the file is of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise FssegError(f"{path} is damaged, or is no adapter file: {error}") from None
    if not isinstance(header, dict) or not isinstance(header.get("format_version"), int):
        raise FssegError(f"{path} is damaged, or is no adapter file: its header is not one of fsseg.")
    if header["format_version"] > FORMAT_VERSION:
        raise UsageError(
            f"{path} has format {header['format_version']}, this fsseg reads up to {FORMAT_VERSION}.\n"
            "  Install a newer fsseg."
        )
    return state, validated(AdapterInfo, header, str(path))
