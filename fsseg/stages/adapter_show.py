"""Stage: say what an adapter file holds."""

from dataclasses import dataclass
from pathlib import Path

from fsseg.config.base import StrictModel
from fsseg.config.results import JsonObject, Result
from fsseg.methods.adapter_file import AdapterInfo, load_adapter


class AdapterShowConfig(StrictModel):
    """What to look at.

    Attributes:
        adapter: the adapter file.
    """

    adapter: Path


@dataclass(frozen=True)
class AdapterShowResult(Result):
    """What an adapter file holds; in JSON, the fields of its header stand beside the others.

    Attributes:
        info: its header.
        tensors, parameters, bytes: number of its tensors, of their values, and size of the file.
    """

    info: AdapterInfo
    tensors: int
    parameters: int
    bytes: int

    def as_json(self) -> JsonObject:
        """Return the header with the other fields behind it."""
        content = super().as_json()
        return {**content.pop("info"), **content}


def run_adapter_show(config: AdapterShowConfig) -> AdapterShowResult:
    """Read an adapter file.

    Raises:
        FssegError: the file is damaged or no adapter.
        UsageError: the file is of a newer format.

    Example:
        >>> run_adapter_show(AdapterShowConfig(adapter=Path("runs/larynx/adapter.safetensors"))).info.method
        'lora'
    """
    state, info = load_adapter(config.adapter)
    parameters = sum(tensor.numel() for tensor in state.values())
    return AdapterShowResult(info, len(state), parameters, config.adapter.stat().st_size)
