"""The adaptation methods by name. Pure data, so that listing them imports no torch."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsseg.config.errors import unknown_name

if TYPE_CHECKING:
    from fsseg.methods.contract import Method


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        location: module and class that implement it.
        summary: what it is, in one line.
        presets: named settings of its options; preset p of method m is called "m:p".
        merges: the result is a plain network; said here, too, because a list of methods imports none of them.
        decoder: what `--decoder` may be, the default first; as `merges`.
    """

    location: str
    summary: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    merges: bool = True
    decoder: tuple[str, ...] = ("frozen", "tuned")


# How FSEFT and ARENA update a Swin network: each query-key-value projection as one matrix.
_JOINT_QKV = {"targets": "encoder", "layers": "qkv", "projections": "joint"}

_FROZEN, _TUNED = ("frozen",), ("tuned",)

METHODS = {
    "from_scratch": Entry(
        "from_scratch:FromScratch", "random initialisation, everything trained: the baseline", decoder=_TUNED
    ),
    "full": Entry("full:Full", "full fine-tuning: everything trained from the pretrained weights", decoder=_TUNED),
    "decoder": Entry("decoder:Decoder", "decoder and head trained, encoder frozen", decoder=_TUNED),
    "linear_probe": Entry(
        "linear_probe:LinearProbe", "only the 1x1x1 head trained on frozen features", decoder=_FROZEN
    ),
    "spatial_adapter": Entry(
        "spatial_adapter:SpatialAdapter",
        "two convolutions between frozen features and head",
        merges=False,
        decoder=_FROZEN,
    ),
    "prototype": Entry(
        "prototype:Prototype", "a head from mean features of the support cases, without training", decoder=_FROZEN
    ),
    "l2_sp": Entry("l2_sp:L2SP", "full fine-tuning, drawn back to the pretrained weights", decoder=_TUNED),
    "bitfit": Entry(
        "bitfit:BitFit",
        "bias terms",
        {"fseft": {"targets": "encoder", "norms": False, "outside_blocks": False, "position_tables": True}},
    ),
    "affine": Entry("affine:Affine", "scales and shifts of the norms", {"fseft": {"targets": "encoder"}}),
    "tinytl": Entry("tinytl:TinyTL", "biases of a convolutional network", {"fseft": {"targets": "encoder"}}),
    "ssf": Entry("ssf:SSF", "scale and shift of what every operation returns"),
    "lora": Entry(
        "lora:LoRA",
        "low-rank updates of linear, convolution and transposed convolution weights",
        {"fseft": {**_JOINT_QKV, "rank": 3 * 4}},
    ),
    "lora_tucker": Entry("lora_tucker:LoRATucker", "low-rank updates with the kernel's extent in a small core"),
    "dora": Entry("dora:DoRA", "low-rank updates of a weight's direction, and its magnitude"),
    "adalora": Entry(
        "adalora:AdaLoRA",
        "low-rank updates with a falling budget of ranks for all layers",
        {
            "arena": {
                **_JOINT_QKV,
                "rank": 12,
                "target_rank": 8,
                "budget_start": 15 * 5,
                "budget_end": 70 * 5,
                "orthogonality": 0.1,
            }
        },
    ),
    "arena": Entry(
        "arena:ARENA",
        "low-rank updates whose rank is found by sparse gates",
        {"paper": {**_JOINT_QKV, "rank": 3 * 8}},
    ),
    "adaptformer": Entry(
        "adaptformer:AdaptFormer",
        "bottlenecks beside MLPs, or beside blocks of convolutions",
        {"fseft": {"targets": "encoder", "bottleneck": 16}},
        merges=False,
    ),
    "residual_adapter": Entry(
        "residual_adapter:ResidualAdapter", "1x1x1 convolutions beside larger ones", {"zero": {"start": "zero"}}
    ),
    "conv_adapter": Entry("conv_adapter:ConvAdapter", "depthwise-separable branches beside convolutions", merges=False),
    "compacter": Entry("compacter:Compacter", "adapters with Kronecker-product weights, and the norms", merges=False),
}


# What is taken where nobody chooses: among the best on known and on novel structures, and it merges.
DEFAULT_METHOD, DEFAULT_DECODER = "lora", "tuned"


def method_names() -> list[str]:
    """Return the names of all methods, each followed by those of its presets."""
    return [name for method, entry in METHODS.items() for name in (method, *(f"{method}:{p}" for p in entry.presets))]


def create_method(name: str, options: Mapping[str, Any] | None = None) -> "Method":
    """Create a method by name.

    Args:
        name: one of `method_names()`.
        options: options of the method, which go before those of a preset; unknown keys and wrong values are refused
            all at once.

    Raises:
        UsageError: unknown method or preset (the nearest name is given) or wrong options.
    """
    from fsseg.config.base import validated

    method = method_class(name)
    values = {**preset_options(name), **(options or {})}
    return method(validated(method.Options, values, f"the options of method {name!r}"))


def method_class(name: str) -> "type[Method]":
    """Return the class of a method; raise `UsageError` with the nearest name if there is none."""
    plain = name.partition(":")[0]
    if name not in method_names():
        known = method_names() if plain in METHODS else METHODS
        raise unknown_name("method", name, known, "`fsseg methods` describes them.")
    module, attribute = METHODS[plain].location.split(":")
    return getattr(importlib.import_module(f"fsseg.methods.{module}"), attribute)


def plain_name(method: "Method") -> str:
    """Return the name of a method without its preset; the name of its class if it is not registered."""
    module, attribute = type(method).__module__.rpartition(".")[2], type(method).__name__
    names = {entry.location: name for name, entry in METHODS.items()}
    return names.get(f"{module}:{attribute}", attribute)


def preset_options(name: str) -> Mapping[str, Any]:
    """Return the options that a preset sets; none for a method's plain name."""
    plain, _, preset = name.partition(":")
    return METHODS[plain].presets[preset] if preset else {}
