"""Network classes of others: registered by a call, or by the entry points of installed packages."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fsseg.config.entry_points import run_entry_points
from fsseg.config.errors import UsageError, listed_errors
from fsseg.models.network_parts import NetworkParts

ENTRY_POINTS = "fsseg.networks"
_ARGUMENTS = ("input_channels", "num_classes", "deep_supervision")


@dataclass(frozen=True)
class RegisteredNetwork:
    """A network class of others: its parts, and the classes of its blocks of convolutions."""

    network_class: type[nn.Module]
    parts: NetworkParts
    blocks: tuple[type[nn.Module], ...]


_registered: dict[str, RegisteredNetwork] = {}


def register_network(
    network_class: type[nn.Module], parts: NetworkParts, *, blocks: Sequence[type[nn.Module]] = ()
) -> None:
    """Let plans name a network class, and methods adapt it.

    nnU-Net plans say by `network_class_name` what to build. They may come from strangers, so only fsseg's own classes
    are built, and those that are registered here. The class is called as nnU-Net calls its own: with `input_channels`,
    `num_classes`, `deep_supervision` and what the plans' `arch_kwargs` say. For commands, put the call into a function
    without arguments and name that in the package's pyproject.toml: `[project.entry-points."fsseg.networks"]`,
    `mine = "my_package.fsseg_plugin:register"`.

    Args:
        network_class: maps an image (batch, channels, z, y, x) to logits (batch, num_classes, z, y, x). It has the
            attribute `supports_deep_supervision`; where that is true, `network.decoder.deep_supervision` switches it.
            Unless it has an argument `strides` as nnU-Net's own, a static method `total_stride(arch_kwargs)` returns
            by what the extents of a patch must be divisible.
        parts: its encoder, decoder and head by the names of submodules. The head is an `nn.ModuleList` of 1x1x1
            convolutions, which `forward` calls, so that it can be replaced.
        blocks: classes of its blocks of convolutions, beside which methods such as adaptformer put adapters. Not
            subclasses of `nn.Sequential`, which would run what is added to them.

    Raises:
        fsseg.config.errors.UsageError: something is missing, or does not fit; all of it is listed.

    Example:
        >>> parts = fsseg.NetworkParts(encoder=("stem", "stages"), decoder=("ups",), head="heads")
        >>> fsseg.register_network(MyNet, parts, blocks=(MyBlock,))
    """
    problems = list(_class_problems(network_class)) + list(_parts_problems(parts))
    problems += [f"its block {block!r} is no class of modules" for block in blocks if not _is_module_class(block)]
    problems += [
        f"its block {block.__name__} is a subclass of nn.Sequential, which runs what is added to it"
        for block in blocks
        if _is_module_class(block) and issubclass(block, nn.Sequential)
    ]
    if problems:
        name = getattr(network_class, "__name__", repr(network_class))
        raise UsageError(listed_errors(problems, f"network {name}, which is to be registered"))
    _registered[class_name(network_class)] = RegisteredNetwork(network_class, parts, tuple(blocks))


def registered_networks() -> dict[str, RegisteredNetwork]:
    """Return the networks of others by the name of their class; the first call asks the installed packages."""
    run_entry_points(ENTRY_POINTS)
    return _registered


def class_name(kind: type) -> str:
    """Return the name by which plans call a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_module_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def _class_problems(kind: Any) -> Iterator[str]:
    if not _is_module_class(kind):
        yield f"it is {kind!r}, and no subclass of torch.nn.Module"
        return
    if class_name(kind).startswith(("fsseg.", "dynamic_network_architectures.")):
        yield "it is one of fsseg's or nnU-Net's own"
    arguments = inspect.signature(kind).parameters
    missing = [name for name in _ARGUMENTS if name not in arguments]
    if missing:
        yield f"its constructor has no argument {', '.join(missing)}"
    if not hasattr(kind, "supports_deep_supervision"):
        yield "it has no attribute supports_deep_supervision (False for a network with one head)"
    if "strides" not in arguments and not callable(getattr(kind, "total_stride", None)):
        yield "it has no static method total_stride(arch_kwargs)"


def _parts_problems(parts: Any) -> Iterator[str]:
    if not isinstance(parts, NetworkParts):
        yield f"its parts are {parts!r}, and no fsseg.NetworkParts"
        return
    missing = [name for name in ("encoder", "decoder", "head") if not getattr(parts, name)]
    if missing:
        yield f"its parts name no {', '.join(missing)}"
