"""The tensors of an adapter in a safetensors file, for networks of which fsseg knows no more than the method."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fsseg.config.errors import FssegError, UsageError

_KEY = "fsseg_method"


def write_tensors(path: Path, state: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Write tensors by name, with the settings of the method; complete or absent."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(save(state, metadata={_KEY: json.dumps(settings)}))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Read a file of `write_tensors`.

    Args:
        path: the file.
        settings: of the method that is applied; the file's must be the same.

    Raises:
        UsageError: there is no such file, or it is of another method or other options.
        FssegError: the file is damaged, or of another kind.
    """
    if not path.is_file():
        raise UsageError(f"Adapter file not found: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise FssegError(f"{path} is damaged, or is no adapter file: {error}") from None
    if _KEY not in metadata:
        raise FssegError(f"{path} was not written by NetworkAdapter.save: it does not say the method.")
    try:
        found = json.loads(metadata[_KEY])
    except ValueError:
        raise FssegError(f"{path} is damaged: what it says of the method cannot be read.") from None
    if found != settings:
        raise UsageError(
            f"{path} is of another adaptation:\n"
            f"  it has:       {json.dumps(found)}\n  applied here: {json.dumps(settings)}"
        )
    return state
