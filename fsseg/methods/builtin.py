"""The methods of fsseg by name. Pure data, so that listing them imports no torch."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsseg.methods.contract import Method


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        implementation: its class, or where that is: module of `fsseg.methods` and name, as "lora:LoRA".
        summary: what it is, in one line.
        presets: named settings of its options; preset p of method m is called "m:p".
        merges: the result is a plain network; said here, too, because a list of methods imports none of them.
        decoder: what `--decoder` may be, the default first; as `merges`.
    """

    implementation: "str | type[Method]"
    summary: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    merges: bool = True
    decoder: tuple[str, ...] = ("frozen", "tuned")

    def method_class(self) -> "type[Method]":
        """Return the class; import it where it is one of fsseg's own."""
        if isinstance(self.implementation, type):
            return self.implementation
        module, name = self.implementation.split(":")
        return getattr(importlib.import_module(f"fsseg.methods.{module}"), name)

    def is_implemented_by(self, kind: type) -> bool:
        """Return whether a class is the one of this method; imports none."""
        if isinstance(self.implementation, type):
            return self.implementation is kind
        return f"{kind.__module__}:{kind.__qualname__}" == f"fsseg.methods.{self.implementation}"


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
