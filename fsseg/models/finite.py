"""Whether tensors hold numbers only."""

from collections.abc import Mapping

import torch
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinite values; the usual case takes one pass over it."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # 8-bit floats cannot be added up
    # NaN and infinity survive a sum; where only the sum overflowed, each value is looked at.
    return bool(values.sum().isfinite()) or bool(torch.isfinite(values).all())


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinite values; copies under other names are left out."""
    places: dict[tuple, str] = {}
    for name, tensor in tensors.items():
        places.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), name)
    return [name for name in places.values() if not is_finite(tensors[name])]
