"""The low-rank update of a weight, read as a matrix: what LoRA and its kin are made of."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.methods.contract import Method
from fsseg.methods.targets import TargetOptions, targeted_modules, why_nothing
from fsseg.models.tracing import CONVOLUTIONS, LAYERS, TRANSPOSED, scale_free_layers

Layers = Literal["all", "convolution", "linear", "qkv"]
_LAYER_CLASSES = {
    "all": LAYERS,
    "convolution": (CONVOLUTIONS,),
    "linear": (nn.Linear,),
    "qkv": (nn.Linear,),
}
_QKV = "qkv"
Update = TypeVar("Update", bound=nn.Module)


class LowRankOptions(TargetOptions):
    """Options that the low-rank methods share."""

    rank: int = Field(default=4, ge=1)
    """Rank r of an update; on a 3x3x3 kernel it costs r(27 Ci + Co) parameters, so 2 to 8 are usual. Layers that read
    the image itself, whose few channels may allow less, get as much as they allow.
    """
    layers: Layers = "all"
    """All linear layers, convolutions and transposed convolutions; or only the "convolution"s (transposed ones
    included), the "linear" ones, or the joint query-key-value projections of attention ("qkv"). A convolution that only
    scales the single channel of an image in front of a norm is left out: the norm undoes it.
    """
    projections: Literal["separate", "joint"] = "separate"
    """Query, key and value of a joint projection: "separate" gives each an update of rank r; "joint" reads the
    projection as one matrix of rank r.
    """


class LowRankMethod(Method):
    """A method that updates weights by a low-rank term."""

    options: LowRankOptions
    family = "low_rank"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a part of a network without a layer of the chosen kind, and a rank that its layers do not allow."""
        options = self.options
        advice = "Use layers=all" + (" or targets=encoder." if options.targets == "decoder" else ".")
        otherwise = f"there is none.\n  {advice}"
        reason = why_nothing(lambda whole: targeted_layers(network, options, whole), trained_whole, otherwise)
        if reason:
            return f"targets={options.targets}, layers={options.layers} finds no layer to adapt: {reason}"
        return _why_too_large(network, targeted_layers(network, options, trained_whole), options)

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say which layers get no update because a norm would undo it."""
        undone = _undone(network, targeted_modules(network, self.options.targets, trained_whole))
        if not undone or self.options.layers not in ("all", "convolution"):
            return []
        return [f"{', '.join(undone)} only scales one channel in front of a norm, which undoes it: no update there."]

    def unused_options(self, network: nn.Module) -> list[str]:
        """Return the option for joint projections where none gets an update."""
        updated = any(name.endswith(f".{_QKV}") for name in self.ranks(network))
        return ["projections"] if self.options.projections == "joint" and not updated else []


def targeted_layers(
    network: nn.Module, options: LowRankOptions, trained_whole: frozenset[nn.Parameter]
) -> list[tuple[str, nn.Module]]:
    """Return name and layer of what gets a low-rank update."""
    chosen = [
        (name, module)
        for name, module in targeted_modules(network, options.targets, trained_whole)
        if isinstance(module, _LAYER_CLASSES[options.layers]) and (options.layers != _QKV or name.endswith(f".{_QKV}"))
    ]
    undone = _undone(network, chosen)
    return [(name, layer) for name, layer in chosen if name not in undone]


def _undone(network: nn.Module, layers: Iterable[tuple[str, nn.Module]]) -> list[str]:
    """Return the layers that do nothing but scale one channel in front of a norm, which takes the scale out again."""
    scales = [(name, m) for name, m in layers if isinstance(m, nn.Conv3d) and m.weight[0].numel() == 1]
    scale_free = scale_free_layers(network) if scales else set()
    return [name for name, layer in scales if layer in scale_free]


def add_updates(
    targets: Sequence[tuple[str, nn.Module]], options: LowRankOptions, update_class: Callable[..., nn.Module]
) -> list[str]:
    """Put an update of `update_class` on the weight of every target; return the names of the targets."""
    for name, layer in targets:
        rank = min(options.rank, _largest_rank(name, layer, options))
        update = update_class(layer, rank=rank, blocks=blocks_of_rows(name, options))
        parametrize.register_parametrization(layer, "weight", update)
    return [name for name, _ in targets]


def updates_of(network: nn.Module, update_class: type[Update]) -> dict[str, Update]:
    """Return the updates of a class in a network by the name of their layer."""
    return {
        name: update
        for name, module in network.named_modules()
        if parametrize.is_parametrized(module, "weight")
        for update in module.parametrizations["weight"]
        if isinstance(update, update_class)
    }


def blocks_of_rows(name: str, options: LowRankOptions) -> int:
    """Return in how many blocks of rows a layer's matrix is updated: 3 for separate query, key and value, else 1."""
    return 3 if options.projections == "separate" and name.endswith(f".{_QKV}") else 1


class LowRankUpdate(nn.Module):
    """Parametrization W -> W + scale * left @ right of a layer's weight, formed in float32.

    A weight is read as a matrix. Linear (o, i): left (o, r), right (r, i). Conv3d (Co, Ci/groups, K): left (Co, r),
    right (r, Ci/groups * K), that is a k^3 convolution to r channels followed by a 1x1x1 one. ConvTranspose3d
    (Ci, Co/groups, K): left (Ci, r), right (r, Co/groups * K). Of the two factors the one that reads the input starts
    Kaiming-uniform (a = sqrt 5) and the other at zero, so the layer starts unchanged. With several blocks the rows are
    split into as many parts of equal size, each with a product of its own, right then (blocks * r, columns).
    """

    def __init__(self, layer: nn.Module, *, rank: int, blocks: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        weight: Tensor = layer.weight  # type: ignore[assignment]
        rows, columns = matrix_shape(weight)
        self.rank = rank
        self.scale = scale
        self.blocks = blocks
        self.left = nn.Parameter(weight.new_zeros(rows, rank))
        self.right = nn.Parameter(weight.new_zeros(blocks * rank, columns))
        transposed = isinstance(layer, TRANSPOSED)
        random, fan_in = (self.left, rows) if transposed else (self.right, columns)
        nn.init.uniform_(random, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))  # = Kaiming-uniform with a = sqrt 5

    def gates(self) -> Tensor | None:
        """Return a factor for each of the blocks * r rank-one terms, or None for no factors."""
        return None

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, in the shape of `weight`."""
        # Under autocast the product would round to half precision, and training and merging would disagree.
        with full_precision(weight):
            return weight + self.scale * self.update().view_as(weight)

    def update(self) -> Tensor:
        """Return the update as a matrix (rows, columns)."""
        gates, right = self.gates(), self.right.float()
        if gates is not None:
            right = gates.float()[:, None] * right
        parts = zip(self.left.float().chunk(self.blocks), right.chunk(self.blocks), strict=True)
        return torch.cat([rows @ columns for rows, columns in parts])


def full_precision(weight: Tensor) -> torch.autocast:
    """Return a context in which what concerns `weight` is computed as it is, not in autocast's half precision."""
    return torch.autocast("cuda" if weight.is_cuda else "cpu", enabled=False)


def matrix_shape(weight: Tensor) -> tuple[int, int]:
    """Return rows and columns of a weight read as a matrix."""
    return weight.shape[0], weight[0].numel()


def _why_too_large(network: nn.Module, targets: list[tuple[str, nn.Module]], options: LowRankOptions) -> str:
    """Return which layers, but for those that read the image, do not allow the rank; "" if all do."""
    image_channels = next((m.in_channels for m in network.modules() if isinstance(m, CONVOLUTIONS)), 0)
    inner = [(name, layer) for name, layer in targets if getattr(layer, "in_channels", None) != image_channels]
    largest = {name: _largest_rank(name, layer, options) for name, layer in inner}
    too_small = {name: rank for name, rank in largest.items() if options.rank > rank}
    if not too_small:
        return ""
    listing = ", ".join(f"{name} (at most {rank})" for name, rank in list(too_small.items())[:5])
    return (
        f"rank {options.rank} is larger than {len(too_small)} layer(s) allow: {listing}\n"
        f"  allowed here: 1 to {min(too_small.values())}. Set a smaller rank."
    )


def _largest_rank(name: str, layer: nn.Module, options: LowRankOptions) -> int:
    rows, columns = matrix_shape(layer.weight)  # type: ignore[arg-type]
    return min(rows // blocks_of_rows(name, options), columns)
