"""What flows through a network's modules: one forward pass without data, on torch's meta device."""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from fsseg.config.errors import UsageError, shown_line
from fsseg.models.parts import known_part_names

TRANSPOSED = nn.modules.conv._ConvTransposeNd
CONVOLUTIONS = nn.modules.conv._ConvNd  # transposed ones among them; of images and volumes
LAYERS = (nn.Linear, CONVOLUTIONS)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_SIZE = 128  # divisible by the total stride of every network here; nothing is computed, so size costs nothing
_SAY_SHAPE = "Say one that it can read: parts=fsseg.NetworkParts(input_shape=(1, channels, z, y, x))."


@dataclass(frozen=True)
class Call:
    """One call of a module with a tensor: input and output have shapes and identity, but no data.

    Attributes:
        module: the module of the traced network.
        input: its first argument; (1, channels, z, y, x) in convolutional parts.
        output: what it returned.
        read, made: where autograd says that input and output came from, at the time of the call. In place, a tensor
            becomes another value while it stays the same object; its origin tells the two apart.
    """

    module: nn.Module
    input: Tensor
    output: Tensor
    read: Node | None
    made: Node | None


def trace(network: nn.Module) -> list[Call]:
    """Run a network on the meta device and return the calls of its modules in the order in which they ended.

    The network itself is neither run nor changed.

    Raises:
        UsageError: the network cannot read the input that is tried.
    """
    copy = deepcopy(network).to("meta").eval().requires_grad_(True)
    original = dict(zip(copy.modules(), network.modules(), strict=True))
    calls: list[Call] = []

    def record(module: nn.Module, inputs: tuple, output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls.append(Call(original[module], inputs[0], output, inputs[0].grad_fn, output.grad_fn))

    for module in copy.modules():
        module.register_forward_hook(record)
    shape = _input_shape(network)
    try:
        with torch.enable_grad():
            copy(torch.empty(shape, device="meta"))
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"{type(network).__name__} cannot read an input of the shape {list(shape)}: {shown_line(error)}\n"
            f"  {_SAY_SHAPE}"
        ) from None
    return calls


def _input_shape(network: nn.Module) -> tuple[int, ...]:
    names = known_part_names(network)
    if names is not None and names.input_shape is not None:
        return tuple(names.input_shape)
    channels = next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv3d)), None)
    if channels is None:
        raise UsageError(
            f"What shape the inputs of {type(network).__name__} have is not known: it has no 3D convolution.\n"
            f"  {_SAY_SHAPE}"
        )
    return (1, channels, _SIZE, _SIZE, _SIZE)


def normalised_layers(network: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return the layers among the modules of `normalised_outputs`."""
    return {module: norm for module, norm in normalised_outputs(network).items() if isinstance(module, LAYERS)}


def normalised_outputs(network: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return the modules whose output goes straight into a normalisation of channels, each with that normalisation.

    A module whose output also goes elsewhere, such as around the normalisation on a residual path, is not among them.
    """
    calls = trace(network)
    uses = _uses(calls)
    norms = {call.read: call.module for call in calls if isinstance(call.module, NORMS)}
    return {
        call.module: norms[call.made]
        for call in calls
        if call.made in norms and call.made is not None and uses[call.made] == 1
    }


def _uses(calls: list[Call]) -> Counter[Node]:
    """Count by how many operations of the network each value is used."""
    uses: Counter[Node] = Counter()
    seen: set[Node] = set()
    waiting = [call.made for call in calls if call.made is not None]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            before = [origin for origin, _ in node.next_functions if origin is not None]
            uses.update(before)
            waiting += before
    return uses


def by_own_statistics(norm: nn.Module) -> bool:
    """Return whether a normalisation takes the mean and scale of each channel out of its input.

    Instance normalisation does, and batch normalisation without running statistics. What only shifts or scales the
    channels in front of it is dead: no effect and no gradient.
    """
    if isinstance(norm, nn.GroupNorm):
        return norm.num_groups == norm.num_channels
    return isinstance(norm, nn.modules.batchnorm._NormBase) and not norm.track_running_stats


def scale_free_layers(network: nn.Module) -> set[nn.Module]:
    """Return the layers whose output channels a normalisation rescales and shifts: scale and bias there are dead."""
    return {layer for layer, norm in normalised_layers(network).items() if by_own_statistics(norm)}
