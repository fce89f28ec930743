"""Image channels that an adapted network ignores, and will go on to ignore however long it is trained."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fsseg.methods.adapted_network import AdaptedNetwork

_LEAST_CHANGE = 1e-4  # of a gradient's norm; rounding is far below, a channel that is read far above


def ignored_channels(adapted: AdaptedNetwork, channels: int, extents: Sequence[int]) -> list[int]:
    """Return the image channels on which neither logits nor any trained parameter's gradient depend.

    A first convolution with zero weights for a channel ignores it, but has a gradient for these weights where they are
    trained, and so has a low-rank update on them. Where no gradient depends on a channel, no step can change that.

    Args:
        adapted: a network before its first step; it is run, not changed, and left in evaluation mode.
        channels: how many image channels it reads.
        extents: of the image to try it on, which the network can read.
    """
    candidates = _zero_channels(adapted, channels)
    if not candidates:
        return []
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, *extents, generator=generator)
    usual = _gradients(adapted, image)
    ignored = []
    for channel in candidates:
        other = image.clone()
        other[:, channel] = torch.randn(other[:, channel].shape, generator=generator)
        if not _differ(usual, _gradients(adapted, other)):
            ignored.append(channel)
    return ignored


def _zero_channels(adapted: AdaptedNetwork, channels: int) -> list[int]:
    """Return channels for which some convolution of as many inputs has zero weights: the only ones worth trying."""
    weights = [p.detach() for p in adapted.network.parameters() if p.ndim == 5 and p.shape[1] == channels]
    return [channel for channel in range(channels) if any(not weight[:, channel].any() for weight in weights)]


def _gradients(adapted: AdaptedNetwork, image: Tensor) -> list[Tensor]:
    network = adapted.network.eval()
    trained = list(adapted.trainable().values())
    image = image.to(trained[0].device)
    with torch.enable_grad():
        logits = network(image)
        # Any smooth function of the logits that no symmetry makes flat; the loss needs labels and is not at hand.
        gradients = torch.autograd.grad(logits.sin().sum(), trained, allow_unused=True)
    return [gradient for gradient in gradients if gradient is not None]


def _differ(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return any(float((a - b).norm()) > _LEAST_CHANGE * float(a.norm()) for a, b in pairs)
