"""Between a base and its adaptation: plain weights on the straight line that joins both."""

import math

import torch
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.models.parts import parts_of

_VARIANCE = ".running_var"  # that a batch norm keeps


def interpolated_state_dict(
    base: nn.Module, adapted: dict[str, Tensor], scale: float, new: list[int]
) -> dict[str, Tensor]:
    """Return base + scale * (adapted - base) for every weight (WiSE-FT, Wortsman et al., CVPR 2022).

    All that the adaptation changed takes part: low-rank updates, a tuned decoder, the head rows of known structures.
    New head rows have no counterpart in the base and stay as adapted.

    Args:
        base: the pretrained network with heads for the adapted structures; the rows of `new` may hold anything.
        adapted: merged weights of the adapted network, under the plain network's keys.
        scale: 0 gives the base, 1 the adapted network; beyond 1 extrapolates.
        new: channels that the base has no row of: novel structures, the background of a softmax.

    Raises:
        UsageError: beyond 1, a variance that a normalisation keeps would become negative.
    """
    start = {key: tensor.detach().cpu() for key, tensor in base.state_dict().items()}
    result = {key: _between(start[key], tensor, scale) for key, tensor in adapted.items()}
    _require_variances(start, adapted, result, scale)
    heads = {id(p) for p in parts_of(base).head.parameters()}
    for key, tensor in base.state_dict(keep_vars=True).items():
        if id(tensor) in heads:
            result[key][new] = adapted[key][new]
    return result


def _require_variances(
    start: dict[str, Tensor], end: dict[str, Tensor], result: dict[str, Tensor], scale: float
) -> None:
    negative = {key: tensor < 0 for key, tensor in result.items() if key.endswith(_VARIANCE) and (tensor < 0).any()}
    if not negative:
        return
    zeros = [float((start[key] / (start[key] - end[key]))[where].min()) for key, where in negative.items()]
    raise UsageError(
        f"--scale {scale} makes the variance of {len(negative)} normalisation(s) negative, first"
        f" {next(iter(negative))}: their output would be NaN.\n  allowed: 0 to {math.floor(100 * min(zeros)) / 100}"
    )


def _between(start: Tensor, end: Tensor, scale: float) -> Tensor:
    return torch.lerp(start, end, scale) if end.is_floating_point() else end.clone()
