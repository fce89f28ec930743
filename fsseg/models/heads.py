"""Segmentation heads: one row per structure, taken from the pretrained head or new."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.config.recipes import Activation
from fsseg.models.parts import part_names_of, parts_of

NEW_ROW_STD = 0.01
BACKGROUND: Literal["background"] = "background"  # first channel of a softmax
RANDOM: Literal["random"] = "random"  # a novel structure, as torch starts a convolution
RANDOM_BACKGROUND: Literal["random_background"] = "random_background"
RowSource = int | float | Literal["background", "random", "random_background"]


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution as one matrix product a sample, whose backward pass on a CPU is several times faster."""

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, outputs, D, H, W) of features (B, inputs, D, H, W)."""
        assert self.bias is not None
        weight = self.weight.flatten(1).expand(len(features), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, features.flatten(2)).unflatten(2, features.shape[2:])


def replace_heads(
    network: nn.Module, sources: Sequence[RowSource], minus: int | None = None, *, deep_supervision: bool = False
) -> None:
    """Replace all segmentation heads in place by heads with one output channel per adapted structure.

    Args:
        network: a network with a pretrained head.
        sources: per new channel either the index (int) of the pretrained row that is its start, or the frequency
            (float in (0, 1)) of a novel structure: its bias starts at the logit of that frequency, so that the first
            prediction is the prior and not one half, and its weights at N(0, 0.01). RANDOM is a novel structure, too,
            of which weights and bias start as in any new convolution. BACKGROUND is a row of zeros, against which a
            softmax starts as the sigmoid that every other row was made for; RANDOM_BACKGROUND has Xavier-uniform
            weights and a bias of zero.
        minus: pretrained row that is subtracted from every other: the background of a softmax whose classes become
            sigmoids, each against background.
        deep_supervision: whether the heads of lower resolutions will be trained. If not, their new rows are zeros:
            two networks that compute the same then have the same weights.

    Raises:
        UsageError: the head of a registered network is no list of 1x1x1 convolutions.
    """
    parts = parts_of(network)
    _require_replaceable(network)
    untrained = [source if isinstance(source, int) else BACKGROUND for source in sources]
    for index, old in enumerate(parts.heads):
        trained = deep_supervision or old is parts.head
        parts.heads[index] = _new_head(old, sources if trained else untrained, minus)


def row_sources(
    rows: Sequence[int | None],
    novel: Sequence[float | Literal["random"]],
    *,
    base: Activation,
    activation: Activation,
) -> tuple[list[RowSource], int | None]:
    """Return the `sources` and `minus` with which `replace_heads` makes a head for an activation out of another's.

    Args:
        rows: the base's head row of each structure; None where it is novel.
        novel: where each row starts that is a novel structure's: its frequency, or RANDOM.
        base: activation of the base's head; the background of a softmax is its row 0.
        activation: of the new head.
    """
    if base == "softmax":
        background: RowSource = 0
    elif any(start != RANDOM for start in novel):
        background = BACKGROUND
    else:
        background = RANDOM if all(row is None for row in rows) else RANDOM_BACKGROUND
    own = [start if row is None else row for row, start in zip(rows, novel, strict=True)]
    if activation == "sigmoid":
        return list(own), 0 if base == "softmax" else None
    return [background, *own], None


def logit(frequency: float) -> float:
    """Return log(p / (1 - p)) of a structure's frequency, bounded to [1e-6, 1 - 1e-6]."""
    p = min(max(frequency, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _require_replaceable(network: nn.Module) -> None:
    name = part_names_of(network).head
    heads = network.get_submodule(name)
    if isinstance(heads, nn.ModuleList) and heads and all(isinstance(head, nn.Conv3d) for head in heads):
        return
    raise UsageError(
        f"The head {name!r} of {type(network).__name__} cannot be replaced: it must be an nn.ModuleList of 1x1x1"
        f" Conv3d, which forward calls, but it is {type(heads).__name__}."
    )


def _new_head(old: nn.Module, sources: Sequence[RowSource], minus: int | None) -> nn.Conv3d:
    assert isinstance(old, nn.Conv3d)  # heads of all supported networks are 1x1x1 convolutions
    head = PointwiseConv3d(old.in_channels, len(sources), 1).to(old.weight.device)
    with torch.no_grad():
        for channel, source in enumerate(sources):
            if source == BACKGROUND:
                head.weight[channel] = 0.0
                head.bias[channel] = 0.0  # type: ignore[index]
            elif isinstance(source, int):
                head.weight[channel] = old.weight[source]
                head.bias[channel] = old.bias[source] if old.bias is not None else 0.0  # type: ignore[index]
                if minus is not None:
                    head.weight[channel] -= old.weight[minus]
                    head.bias[channel] -= old.bias[minus] if old.bias is not None else 0.0  # type: ignore[index]
            elif source == RANDOM_BACKGROUND:
                nn.init.xavier_uniform_(head.weight[channel : channel + 1])
                head.bias[channel] = 0.0  # type: ignore[index]
            elif isinstance(source, float):
                head.weight[channel].normal_(0.0, NEW_ROW_STD)
                head.bias[channel] = logit(source)  # type: ignore[index]
    return head
