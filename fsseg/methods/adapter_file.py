"""adapter.safetensors: what distinguishes an adapted network from its base, with what is needed to apply it."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationInfo, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fsseg.config.base import StrictModel, validated
from fsseg.config.bounded_text import parse_json
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import LEAST_TILE_STEP, Activation, DecoderChoice
from fsseg.data.assembly import HIGHEST_INTEGER
from fsseg.models.finite import is_finite
from fsseg.models.weights_hash import hash_of_weights

ADAPTER_NAME = "adapter.safetensors"
FORMAT_VERSION = 3
_READABLE = (2, 3)  # 1 had no hash of the file's content; 2 did not say of which label maps the integers are
_KEY = "fsseg"
_HASH = "sha256"
_Integers = Annotated[tuple[Annotated[int, Field(ge=1, le=HIGHEST_INTEGER)], ...], Field(min_length=1)]
_DTYPES = (torch.float32, torch.int64)  # weights; counts and indices


class LabelMaps(StrictModel):
    """What tells the label maps of a dataset from others: a hash of all its integers, and the highest of them."""

    sha256: str
    highest: int


class AdapterInfo(StrictModel):
    """The header of an adapter file.

    Attributes:
        method: name of the method, with its `options` and `decoder` choice.
        activation: of the head; with "softmax" a background row comes before those of the structures.
        structures: adapted structures in channel order, with the base's head row each started from (None: a new one).
        integers: the integers of each structure in the label maps that the adapted network writes, in channel order.
        label_maps: of which the integers are; None if the adapter numbers its own.
        file_ending: of the images of the dataset.
        mirroring_axes: axes that test-time mirroring may flip; none where the training had no flips.
        tile_step_size: step of the sliding window as a share of the patch, as the recipe has it.
        base_sha256: hash of the base's weights and settings; the adapter fits no other base.
        base_settings: what of the base's plans decides what its network computes, to say in what another base differs.
        base_licence: licence of the base, which goes on with the adapter.
        support: support cases.
        transductive: cases whose images the training saw without their label maps.
        ranks: effective rank of every layer with a low-rank update, at the end of training.
        training: steps, final loss, and whether the loss reached its plateau; no times, so that equal trainings give
            equal files.
        estimate: DSC per structure that leave-one-out over the support cases expects; None if it was not asked for.
    """

    format_version: int = FORMAT_VERSION
    method: str
    options: dict[str, Any]
    decoder: DecoderChoice
    activation: Activation = "sigmoid"
    structures: dict[str, Annotated[int, Field(ge=0)] | None] = Field(min_length=1)
    integers: dict[str, _Integers]
    label_maps: LabelMaps | None = None
    file_ending: str = ".nii.gz"
    mirroring_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...]
    tile_step_size: float = Field(ge=LEAST_TILE_STEP, le=1)
    base_sha256: str
    base_settings: dict[str, Any]
    base_licence: str
    support: tuple[str, ...]
    transductive: tuple[str, ...] = ()
    ranks: dict[str, int] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    estimate: dict[str, float] | None = None

    @field_validator("integers")
    @classmethod
    def _belong_to_the_channels(
        cls, integers: dict[str, tuple[int, ...]], earlier: ValidationInfo
    ) -> dict[str, tuple[int, ...]]:
        names = list(earlier.data.get("structures", integers))
        if "background" in names:
            raise ValueError("no structure can be called background, which is what no structure covers")
        if list(integers) != names:
            raise ValueError(f"the structures are {names}, in this order, got {list(integers)}")
        if earlier.data.get("activation") == "softmax" and integers != {name: (i + 1,) for i, name in enumerate(names)}:
            raise ValueError("the classes of a softmax are numbered from 1 in the order of its channels")
        return integers


def save_adapter(folder: Path, state: dict[str, Tensor], info: AdapterInfo) -> None:
    """Write adapter.safetensors; complete or absent.

    Raises:
        FssegError: a tensor holds NaN or infinite values.
        OSError: not all of it could be written.
    """
    _require_intact(state, folder / ADAPTER_NAME)
    temporary = folder / (ADAPTER_NAME + ".tmp")
    try:
        # save_file would make a file that only its owner can read, whatever the umask.
        temporary.write_bytes(save(state, metadata=sealed(info.model_dump(mode="json"), state)))
        temporary.replace(folder / ADAPTER_NAME)
    finally:
        temporary.unlink(missing_ok=True)


def sealed(header: dict[str, Any], state: dict[str, Tensor]) -> dict[str, str]:
    """Return the metadata of an adapter file: its header, and with it a hash of header and tensors."""
    # One entry: safetensors writes several in an order of chance, and equal trainings give equal files.
    return {_KEY: json.dumps({_HASH: _hash_of(header, state), **header})}


def load_adapter(path: Path) -> tuple[dict[str, Tensor], AdapterInfo]:
    """Read an adapter file.

    Raises:
        FssegError: the file is damaged or no adapter.
        UsageError: there is no such file, or it is of another format.
    """
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise FssegError(f"{path} is damaged, or is no adapter file: {error}") from None
    header = parse_json(metadata[_KEY], f"The header of {path}") if _KEY in metadata else None
    if not isinstance(header, dict) or not isinstance(header.get("format_version"), int):
        raise FssegError(f"{path} is no adapter file: it has no header of fsseg.")
    _require_format(header["format_version"], path)
    if header.pop(_HASH, None) != _hash_of(header, state):
        raise FssegError(
            f"{path} is damaged: its content is not what was written (its hash differs).\n"
            "  Copy it again from where it was made."
        )
    _require_intact(state, path)
    try:
        return state, validated(AdapterInfo, header, str(path))
    except UsageError as error:  # of whoever made the file
        raise FssegError(f"{error}\n  The file is damaged, or was made with another version of fsseg.") from None


def _hash_of(header: dict[str, Any], state: dict[str, Tensor]) -> str:
    return hashlib.sha256(f"{json.dumps(header)}{hash_of_weights(state)}".encode()).hexdigest()


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not an adapter file.\n  Give {path / ADAPTER_NAME}")
    if not path.is_file():
        raise UsageError(f"Adapter file not found: {path}\n  Give the {ADAPTER_NAME} of a run of `fsseg adapt`.")


def _require_format(version: int, path: Path) -> None:
    if version in _READABLE:
        return
    advice = "Install a newer fsseg." if version > FORMAT_VERSION else "Adapt again with this fsseg."
    readable = f"formats {_READABLE[0]} to {FORMAT_VERSION}"
    raise UsageError(f"{path} has format {version}, this fsseg reads {readable}.\n  {advice}")


def _require_intact(state: dict[str, Tensor], path: Path) -> None:
    problems = [f"{name} is of {tensor.dtype}" for name, tensor in state.items() if tensor.dtype not in _DTYPES]
    numbers = {name: tensor for name, tensor in state.items() if tensor.dtype in _DTYPES}
    problems += [f"{name} holds NaN or infinite values" for name, t in numbers.items() if not is_finite(t)]
    if problems:
        allowed = " and ".join(map(str, _DTYPES))
        raise FssegError(
            f"{path} cannot be applied:\n  - " + "\n  - ".join(problems[:10]) + f"\n  allowed: {allowed}, all finite"
        )
