"""Layers of every kind that methods insert into, with values on which float64 is exact."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

LAYER_CASES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 5),
    "conv": lambda: nn.Conv3d(4, 6, 3, padding=1),
    "conv stride 2": lambda: nn.Conv3d(4, 6, 3, stride=2, padding=1),
    "conv dilation 2": lambda: nn.Conv3d(4, 6, 3, dilation=2, padding=2),
    "conv groups 2": lambda: nn.Conv3d(4, 6, 3, groups=2, padding=1),
    "conv anisotropic": lambda: nn.Conv3d(4, 6, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    "conv 1x1x1": lambda: nn.Conv3d(4, 6, 1),
    "transposed": lambda: nn.ConvTranspose3d(4, 6, 2, stride=2),
    "transposed anisotropic": lambda: nn.ConvTranspose3d(4, 6, (1, 2, 2), stride=(1, 2, 2)),
    "transposed groups 2": lambda: nn.ConvTranspose3d(4, 6, 2, stride=2, groups=2),
}


def eighths(*shape: int) -> Tensor:
    """Return multiples of 1/8: products of these are exact in float32, so nothing hides in rounding."""
    return torch.randint(-8, 9, shape, dtype=torch.float64) / 8


def layer_input(name: str) -> Tensor:
    return eighths(2, 6) if name == "linear" else eighths(2, 4, 5, 6, 7)
