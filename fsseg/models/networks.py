"""Networks from the architecture block of nnU-Net plans; class names come from an allow-list, or are registered."""

import importlib
import inspect
import math
from typing import Any, TypeAlias

from torch import nn

from fsseg.config.errors import UsageError, shown_line, unknown_name
from fsseg.models.parts import SUPPORTED
from fsseg.models.registration import registered_networks

# A plans file is input from strangers: it may name the supported networks, those that the user or an installed package
# registered, and torch's own layers, nothing else.
NETWORK_CLASSES = frozenset(SUPPORTED)
ArchitectureBlock: TypeAlias = dict[str, Any]  # of plans: network_class_name, arch_kwargs, _kw_requires_import
_LAYER_PREFIX = "torch.nn."
_AXES = 3


def build_network(
    architecture: ArchitectureBlock, *, input_channels: int, output_channels: int, deep_supervision: bool
) -> nn.Module:
    """Build a network from the `architecture` block of an nnU-Net configuration, as nnU-Net itself does.

    Args:
        architecture: mapping with `network_class_name`, `arch_kwargs` and `_kw_requires_import`.
        input_channels: image channels.
        output_channels: structures, one logit channel each.
        deep_supervision: return logits of all decoder stages in training (highest resolution first).

    Raises:
        UsageError: the block names a class that is not allowed, the class refuses its arguments, or the network has no
            deep supervision.
    """
    network_class = _network_class(architecture)
    if deep_supervision and not supports_deep_supervision(architecture):
        raise _no_deep_supervision(network_class.__name__)
    try:
        network = network_class(
            input_channels=input_channels,
            num_classes=output_channels,
            deep_supervision=deep_supervision,
            **_given_arguments(architecture),
        )
    except (TypeError, AssertionError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        if isinstance(error, UsageError) or "allocate" in str(error):
            raise
        raise UsageError(f"The plans do not fit {network_class.__name__}: {shown_line(error)}") from None
    if hasattr(network, "initialize"):  # networks without it, as nnU-Net has it, keep what their constructor drew
        network.apply(network.initialize)
    return network


def arguments_of(architecture: ArchitectureBlock) -> dict[str, Any]:
    """Return all arguments of the network of an architecture block, defaults included, layers as classes.

    Raises:
        UsageError: the block names a class that is not allowed.
    """
    return defaults_of(_network_class(architecture)) | _given_arguments(architecture)


def defaults_of(kind: type) -> dict[str, Any]:
    """Return the arguments of a class that have defaults, with these."""
    parameters = inspect.signature(kind).parameters.items()
    return {name: each.default for name, each in parameters if each.default is not each.empty}


def supports_deep_supervision(architecture: ArchitectureBlock) -> bool:
    """Return whether the network of an architecture block can return logits of all decoder stages.

    A network class that cannot says `supports_deep_supervision = False`; nnU-Net's own all can, and say nothing.
    """
    return getattr(_network_class(architecture), "supports_deep_supervision", True)


def set_deep_supervision(network: nn.Module, enabled: bool) -> None:
    """Switch between logits of all decoder stages (True) and of the full resolution only (False).

    Raises:
        UsageError: it is to be switched on in a network that has none.
    """
    if getattr(network, "supports_deep_supervision", True):
        network.decoder.deep_supervision = enabled  # type: ignore[union-attr]
    elif enabled:
        raise _no_deep_supervision(type(network).__name__)


def total_strides(architecture: ArchitectureBlock) -> list[int]:
    """Return by what a patch must be divisible along each axis, for the network of an architecture block.

    Raises:
        UsageError: the block names a class that is not allowed, or its strides cannot be read.
    """
    arguments = architecture["arch_kwargs"]
    try:
        if arguments.get("strides") is not None:
            return [math.prod(axis) for axis in zip(*arguments["strides"], strict=True)]
        # nnU-Net's own networks have strides in their arguments, and say themselves that they miss them.
        total_stride = getattr(_network_class(architecture), "total_stride", None)
        return [1 if total_stride is None else total_stride(arguments)] * _AXES
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UsageError(f"The plans hold no strides that can be read: {error}") from None


def _network_class(architecture: ArchitectureBlock) -> Any:
    class_name = architecture["network_class_name"]
    if class_name in NETWORK_CLASSES:
        return _locate(class_name)
    registered = registered_networks()
    if class_name not in registered:
        hint = "A class of your own, or of a package, is known after fsseg.register_network."
        raise unknown_name("network class in the plans", class_name, {*NETWORK_CLASSES, *registered}, hint)
    return registered[class_name].network_class


def _given_arguments(architecture: ArchitectureBlock) -> dict[str, Any]:
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        if arguments.get(key) is not None:
            arguments[key] = _layer_class(arguments[key])
    return arguments


def _no_deep_supervision(class_name: str) -> UsageError:
    return UsageError(f"{class_name} has no deep supervision: it has one head, at full resolution.\n  Switch it off.")


def _layer_class(name: str) -> type[nn.Module]:
    layer = _locate(name) if isinstance(name, str) and name.startswith(_LAYER_PREFIX) else None
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
