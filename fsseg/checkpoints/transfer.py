"""Weights of a file into a network, by name and shape, with a report of what went where."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsseg.checkpoints.input_channels import ChannelMap
from fsseg.config.errors import FssegError
from fsseg.config.results import JsonObject
from fsseg.models.finite import is_finite
from fsseg.models.parts import parts_of


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did. Tensors that a network holds under several names count once.

    Attributes:
        matched: tensors of the network that were filled from the file.
        dropped: tensors of the file that were not used -> why.
        missing: tensors of the network that the file does not hold; they keep their random initialisation.
        reshaped: tensors that both hold under one name, but in other shapes -> both shapes; also random.
        parameters: per part of the network, encoder, decoder and other, how many parameters were filled, and of how
            many. Heads are in no part.
        head: whether the head was filled.
        unplaced: of the dropped tensors those that lie in a module of the network: layers that the network lacks.
        channels: what each image channel starts from, and which of the file are left out; None where they are the
            file's.
    """

    matched: tuple[str, ...]
    dropped: dict[str, str]
    missing: tuple[str, ...]
    reshaped: dict[str, dict[str, list[int]]]
    parameters: dict[str, tuple[int, int]]
    head: bool
    unplaced: tuple[str, ...] = ()
    channels: ChannelMap | None = None

    def share(self, part: str) -> float:
        """Return the share of a part's parameters that came from the file."""
        filled, total = self.parameters[part]
        return filled / total

    def as_dict(self) -> JsonObject:
        """Return the report as JSON values."""
        return {
            "matched": list(self.matched),
            "dropped": self.dropped,
            "missing": list(self.missing),
            "reshaped": self.reshaped,
            "parameters": {part: {"filled": f, "total": t} for part, (f, t) in self.parameters.items()},
            "encoder_share": round(self.share("encoder"), 6),
            "head": self.head,
            "channels": None if self.channels is None else self.channels.as_dict(),
        }

    def counts(self) -> JsonObject:
        """Return the report as JSON values with counts instead of names."""
        counted = ("matched", "dropped", "missing", "reshaped")
        return {key: len(value) if key in counted else value for key, value in self.as_dict().items()}


def transfer(network: nn.Module, weights: Mapping[str, Tensor], *, with_head: bool) -> TransferReport:
    """Copy tensors into a network where name and shape agree; never by position, never by shape alone.

    Args:
        network: filled in place.
        weights: tensors under the names of the network.
        with_head: the file has a head for this network; else the heads are set to zero and not called missing.

    Raises:
        FssegError: two copies of one tensor of the network differ in the file, or a tensor holds NaN or infinity.
    """
    state = network.state_dict(keep_vars=True)
    names: dict[int, str] = {}  # nnU-Net registers modules twice: one tensor, several names
    for name, tensor in state.items():
        names.setdefault(id(tensor), name)
    filled: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    reshaped: dict[str, dict[str, list[int]]] = {}
    for name, value in weights.items():
        if name not in state:
            dropped[name] = "the network has no tensor of this name"
        elif state[name].shape != value.shape:
            shapes = {"file": list(value.shape), "network": list(state[name].shape)}
            reshaped.setdefault(names[id(state[name])], shapes)
        else:
            _fill(state[name], names[id(state[name])], value, filled)
    heads = {id(parameter) for parameter in parts_of(network).heads.parameters()}
    if not with_head:
        _clear(parts_of(network).heads)
    expected = [name for key, name in names.items() if (with_head or key not in heads) and _is_learned(state[name])]
    head_names = [names[id(parameter)] for parameter in parts_of(network).head.parameters()]
    return TransferReport(
        matched=tuple(filled),
        dropped=dropped,
        missing=tuple(name for name in expected if name not in filled and name not in reshaped),
        reshaped=reshaped,
        parameters=_count(network, {id(state[name]) for name in filled}),
        head=with_head and all(name in filled for name in head_names),
        unplaced=_unplaced(network, dropped),
    )


def _unplaced(network: nn.Module, dropped: Iterable[str]) -> tuple[str, ...]:
    """Return the tensors that a larger network of the same kind has: they lie in a module with parameters.

    nnU-Net's all_modules holds layers once more by their place, which a dropout shifts: a copy is no layer.
    """
    modules = {name.rpartition(".")[0] for name, _ in network.named_parameters(remove_duplicate=False)}
    around = {before for module in modules for before in _prefixes(module)}
    layers = [name for name in dropped if ".all_modules." not in name]
    return tuple(name for name in layers if not around.isdisjoint(_prefixes(name.rpartition(".")[0])))


def _prefixes(module: str) -> list[str]:
    """Return the names of a module and of the modules around it: a.b -> a, a.b."""
    words = module.split(".")
    return [".".join(words[:end]) for end in range(1, len(words) + 1)]


def _fill(target: Tensor, name: str, value: Tensor, filled: dict[str, Tensor]) -> None:
    if name in filled:
        if not torch.equal(filled[name], value):
            raise FssegError(f"The file holds {name!r} under two names with different values: it is damaged.")
        return
    if value.is_floating_point() != target.is_floating_point():
        raise FssegError(f"The file holds {value.dtype} in {name!r}, where numbers of {target.dtype} belong.")
    if not is_finite(value):
        raise FssegError(f"The file holds NaN or infinite values in {name!r}: it is damaged.")
    with torch.no_grad():
        target.copy_(value)
    filled[name] = value


def _clear(heads: nn.ModuleList) -> None:
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()


def _is_learned(tensor: Tensor) -> bool:
    """Return whether a tensor holds what training finds; indices are computed by the network itself."""
    return tensor.is_floating_point()


def _count(network: nn.Module, filled: set[int]) -> dict[str, tuple[int, int]]:
    parts = parts_of(network)
    encoder = {id(parameter) for parameter in parts.encoder.parameters()}
    decoder = {id(parameter) for parameter in parts.decoder_parameters()}
    heads = {id(parameter) for parameter in parts.heads.parameters()}
    counts = {"encoder": [0, 0], "decoder": [0, 0], "other": [0, 0]}
    for parameter in network.parameters():
        key = id(parameter)
        if key not in heads:
            part = "encoder" if key in encoder else "decoder" if key in decoder else "other"
            counts[part][0] += parameter.numel() * (key in filled)
            counts[part][1] += parameter.numel()
    return {part: (have, of) for part, (have, of) in counts.items()}
