"""Which extents a network can read: found by running it on torch's meta device, where size costs nothing."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fsseg.models.tracing import by_own_statistics

_FURTHEST = 128  # no network here halves more than seven times
_SINGLE_VOXEL = "a single voxel would be left at its lowest level, of which a norm can take no statistics"
_ODD = "one of its levels would halve an odd number of voxels"


def why_unreadable(network: nn.Module, channels: int, extents: Sequence[int], batch_size: int) -> str:
    """Return why a network cannot be trained on patches of these extents, or predict with them; "" if it can.

    Args:
        network: on the meta device, without deep supervision; left in evaluation mode.
        channels: image channels.
        extents: of a patch, in the axis order of the network.
        batch_size: of the training; a norm may need more voxels than one patch has.
    """
    for training, batch in ((True, batch_size), (False, 1)):
        try:
            found = network.train(training)(torch.empty(batch, channels, *extents, device="meta")).shape[2:]
        except (RuntimeError, ValueError, AssertionError) as error:
            network.eval()
            return _SINGLE_VOXEL if "more than 1" in str(error) else _ODD
        if tuple(found) != tuple(extents):
            return _ODD
    return ""


def nearest_sizes(readable: Callable[[int], bool], size: int) -> list[int]:
    """Return the largest readable size up to `size` and the smallest from it on, where there are any, nearest first."""
    below = next((s for s in range(size, max(0, size - _FURTHEST), -1) if readable(s)), None)
    above = next((s for s in range(size, size + _FURTHEST) if readable(s)), None)
    return sorted({s for s in (below, above) if s is not None}, key=lambda found: (abs(found - size), found))


def sees_extents(network: nn.Module) -> bool:
    """Return whether norms take statistics from the patch at hand, so that features depend on how much it shows."""
    return any(isinstance(module, nn.GroupNorm) or by_own_statistics(module) for module in network.modules())
