"""Where and in which precision a network computes: the same for training and for cached features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fsseg.config.base import Precision
from fsseg.config.errors import UsageError


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device in the memory layout that is fast there; return it."""
    network.to(device)
    if device.type == "cpu":  # faster 3D convolutions on a CPU; CUDA chooses its layout itself
        for parameter in network.parameters():
            if parameter.dim() == 5:  # Module.to(memory_format=...) would refuse what has four axes
                # not contiguous(), which leaves the strides of 1x1x1 kernels, and then torch takes the slow layout
                parameter.data = torch.empty_like(parameter, memory_format=torch.channels_last_3d).copy_(parameter)
    return network


def computing_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """Return in which numbers convolutions and matrix products are computed.

    Args:
        device: where.
        precision: "auto" is mixed precision on CUDA, in bfloat16 where the device has it and else in float16, and
            float32 elsewhere, so that on every CPU the same is computed.
    """
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16 if has_bfloat16(device) else torch.float16
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def require_precision(device: torch.device, precision: Precision) -> None:
    """Raise `UsageError` if bfloat16 is asked for and the device does not have it."""
    if precision == "bfloat16" and not has_bfloat16(device):
        raise UsageError(
            f"This {device.type} device has no bfloat16; emulated, precision=bfloat16 would take many times as long.\n"
            "  allowed here: auto, float32"
        )


def mixed_precision(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the autocast context of a precision."""
    dtype = computing_dtype(device, precision)
    if dtype is torch.float32:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=dtype)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16, which has the range of float32 and needs no gradient scaler."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads on the CPU inside the `with` statement."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
