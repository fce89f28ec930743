"""The adaptation methods by name. Pure data, so that listing them imports no torch."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsseg.config.errors import unknown_name

if TYPE_CHECKING:
    from fsseg.methods.contract import Method


@dataclass(frozen=True)
class Entry:
    """Where a method is implemented and what it is, in one line."""

    location: str
    summary: str


METHODS = {
    "from_scratch": Entry("from_scratch:FromScratch", "random initialisation, everything trained: the baseline"),
    "full": Entry("full:Full", "full fine-tuning: everything trained from the pretrained weights"),
    "decoder": Entry("decoder:Decoder", "decoder and head trained, encoder frozen"),
    "linear_probe": Entry("linear_probe:LinearProbe", "only the 1x1x1 head trained on frozen features"),
    "lora": Entry("lora:LoRA", "low-rank updates of linear, convolution and transposed convolution weights"),
}


def create_method(name: str, options: dict[str, Any] | None = None) -> "Method":
    """Create a method by name.

    Args:
        name: a key of METHODS.
        options: the method's options; unknown keys and wrong values are refused all at once.

    Raises:
        UsageError: unknown method (the nearest name is given) or wrong options.
    """
    from fsseg.config.base import validated

    method = method_class(name)
    return method(validated(method.Options, options or {}, f"the options of method {name!r}"))


def method_class(name: str) -> "type[Method]":
    """Return the class of a method; raise `UsageError` with the nearest name if there is none."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, "`fsseg methods` describes them.")
    module, attribute = METHODS[name].location.split(":")
    return getattr(importlib.import_module(f"fsseg.methods.{module}"), attribute)
