"""Closed forms of the parameter counts of every method, from the table of layers in tiny.py."""

import math
from collections.abc import Callable

from method_cases import Case
from tiny import BLOCKS, LAYERS, BlockOf, Layer


def own_layers(case: Case, targets: str = "all") -> list[Layer]:
    """Return the layers of the targeted part that are not trained whole."""
    return [layer for layer in LAYERS[case.network] if _is_own(case, targets, layer.part)]


def updated_layers(case: Case, targets: str = "all") -> list[Layer]:
    """Return the own layers that a low-rank update can change: not those that scale one channel in front of a norm."""
    return [layer for layer in own_layers(case, targets) if layer.columns > 1 or not has_norm_behind(case, layer)]


def own_blocks(case: Case, targets: str = "all") -> list[BlockOf]:
    """Return the blocks of the targeted part that are not trained whole."""
    return [block for block in BLOCKS[case.network] if _is_own(case, targets, block.part)]


def _is_own(case: Case, targets: str, part: str) -> bool:
    return targets in ("all", part) and not (case.decoder == "tuned" and part == "decoder")


def has_norm_behind(case: Case, layer: Layer) -> bool:
    """Whether a norm is right behind a layer; those of Swin UNETR's convolutions have no parameters."""
    return layer.norm or (case.network == "swin" and layer.part != "encoder" and not layer.transposed)


def is_qkv(layer: Layer) -> bool:
    return layer.table > 0


def low_rank(case: Case, rank: int = 4, gates: int = 0, targets: str = "all") -> int:
    """Count the factors, and `gates` values a term; query, key and value have `rank` terms each."""
    own = updated_layers(case, targets)
    ranks = [min(rank, each.rows, each.columns) for each in own]  # what reads the image may allow few only
    return sum(
        r * (each.rows + (3 if is_qkv(each) else 1) * (each.columns + gates))
        for r, each in zip(ranks, own, strict=True)
    )


def joint_qkv(case: Case, rank: int, gates: int = 0) -> int:
    return sum(rank * (each.rows + each.columns + gates) for each in own_layers(case, "encoder") if is_qkv(each))


def tucker(case: Case, rank: int = 4) -> int:
    total = 0
    for layer in updated_layers(case):
        if layer.kernel == 1:
            r = min(rank, layer.rows, layer.columns)
            total += r * layer.rows + r * (3 if is_qkv(layer) else 1) * layer.columns
        else:
            first, second = (layer.inputs, layer.outputs) if layer.transposed else (layer.outputs, layer.inputs)
            r, s = min(rank, first), min(rank, second)
            total += first * r + r * s * layer.kernel + s * second
    return total


def dora(case: Case) -> int:
    live = case.network == "plain_batch_norm"  # its norms keep their statistics, so a magnitude in front of them lives
    return low_rank(case) + sum(each.outputs for each in own_layers(case) if live or not has_norm_behind(case, each))


def biases(case: Case, targets: str = "all") -> int:
    own = own_layers(case, targets)
    return sum(
        each.outputs * (each.norm or (each.bias and not has_norm_behind(case, each))) + each.layer_norm for each in own
    )


def affine(case: Case, targets: str = "all") -> int:
    return sum(2 * (each.outputs * each.norm + each.layer_norm) for each in own_layers(case, targets))


def ssf(case: Case) -> int:
    return affine(case) + sum(
        each.outputs * (1 + each.bias) for each in own_layers(case) if not has_norm_behind(case, each)
    )


def adaptformer(case: Case, bottleneck: int, targets: str = "all") -> int:
    return sum(bottleneck * (b.inputs + 1 + b.outputs) + b.outputs for b in own_blocks(case, targets))


def conv_adapter(case: Case) -> int:
    total = 0
    for layer in own_layers(case, "encoder"):
        if layer.kernel > 1:
            width = max(1, layer.inputs // 4)
            inputs_of_a_group = layer.inputs // math.gcd(layer.inputs, width)
            total += width * inputs_of_a_group * layer.kernel + width * layer.outputs + layer.outputs
    return total


def compacter(case: Case, bottleneck: int = 24, products: int = 4) -> int:
    adapters = [b.outputs for b in own_blocks(case, "encoder") for _ in range(1 + b.attention)]
    own = sum(3 * channels + 3 * bottleneck for channels in adapters)
    return 2 * products**3 + own + affine(case, "encoder")


def whole(case: Case) -> int:
    return sum(layer.parameters for layer in own_layers(case))


# What a method trains itself, head and tuned decoder aside. A new method gets a line here.
OWN_PARAMETERS: dict[str, Callable[[Case], int]] = {
    "from_scratch": whole,
    "full": whole,
    "l2_sp": whole,
    "decoder": lambda case: 0,
    "linear_probe": lambda case: 0,
    "prototype": lambda case: 0,
    "spatial_adapter": lambda case: 2 * 27 * (12 if case.network == "swin" else 4) ** 2,
    "bitfit": biases,
    "bitfit:fseft": lambda case: sum(each.outputs + each.table for each in LAYERS["swin"] if each.linear and each.bias),
    "affine": affine,
    "affine:fseft": lambda case: affine(case, "encoder"),
    "tinytl": biases,
    "tinytl:fseft": lambda case: biases(case, "encoder"),
    "ssf": ssf,
    "lora": low_rank,
    "lora:fseft": lambda case: joint_qkv(case, 12),
    "lora_tucker": tucker,
    "dora": dora,
    "adalora": lambda case: low_rank(case, gates=1),
    "adalora:arena": lambda case: joint_qkv(case, 12, gates=1),
    "arena": lambda case: low_rank(case, gates=1),
    "arena:paper": lambda case: joint_qkv(case, 12, gates=1),
    "adaptformer": lambda case: adaptformer(case, 64),
    "adaptformer:fseft": lambda case: adaptformer(case, 16, "encoder"),
    "residual_adapter": lambda case: sum(
        each.outputs * each.inputs for each in own_layers(case, "encoder") if each.kernel == 27
    ),
    "residual_adapter:zero": lambda case: OWN_PARAMETERS["residual_adapter"](case),
    "conv_adapter": conv_adapter,
    "compacter": compacter,
}
