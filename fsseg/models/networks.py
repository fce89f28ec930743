"""Networks from the architecture block of nnU-Net plans; class names come from an allow-list."""

import importlib
from typing import Any

from torch import nn

from fsseg.config.errors import UsageError, unknown_name

# A plans file is input from strangers: it may name these network classes and torch's own layers, nothing else.
NETWORK_CLASSES = {
    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}
_LAYER_PREFIX = "torch.nn."


def build_network(
    architecture: dict[str, Any], *, input_channels: int, output_channels: int, deep_supervision: bool
) -> nn.Module:
    """Build a network from the `architecture` block of an nnU-Net configuration.

    Args:
        architecture: mapping with `network_class_name`, `arch_kwargs` and `_kw_requires_import`.
        input_channels: image channels.
        output_channels: structures, one logit channel each.
        deep_supervision: return logits of all decoder stages in training (highest resolution first).

    Raises:
        UsageError: the block names a class that is not allowed, or the class refuses its arguments.
    """
    class_name = architecture["network_class_name"]
    if class_name not in NETWORK_CLASSES:
        raise unknown_name("network class in the plans", class_name, NETWORK_CLASSES)
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        if arguments.get(key) is not None:
            arguments[key] = _layer_class(arguments[key])
    try:
        network = _locate(class_name)(
            input_channels=input_channels,
            num_classes=output_channels,
            deep_supervision=deep_supervision,
            **arguments,
        )
    except (TypeError, AssertionError, ValueError) as error:
        raise UsageError(f"The plans do not fit {class_name.rsplit('.', 1)[-1]}: {error}") from None
    network.apply(network.initialize)
    return network


def set_deep_supervision(network: nn.Module, enabled: bool) -> None:
    """Switch between logits of all decoder stages (True) and of the full resolution only (False)."""
    network.decoder.deep_supervision = enabled  # type: ignore[union-attr]


def _layer_class(name: str) -> type[nn.Module]:
    layer = _locate(name) if name.startswith(_LAYER_PREFIX) else None
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise UsageError(
            f"The plans name the layer {name!r}.\n  allowed: layers of torch.nn, written as {_LAYER_PREFIX}…"
        )
    return layer


def _locate(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise UsageError(f"The plans name {name!r}, which does not exist here.") from None
