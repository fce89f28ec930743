"""Where and in which precision a network computes: the same for training and for cached features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device in the memory layout that is fast there; return it."""
    network.to(device)
    if device.type == "cpu":  # faster 3D convolutions on a CPU; CUDA chooses its layout itself
        for parameter in network.parameters():
            if parameter.dim() == 5:  # Module.to(memory_format=...) would refuse what has four axes
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return a context of mixed precision on CUDA, of float32 elsewhere."""
    if device.type != "cuda":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast("cuda", dtype=torch.bfloat16 if has_bfloat16(device) else torch.float16)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16, which has the range of float32 and needs no gradient scaler."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads on the CPU inside the `with` statement."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
