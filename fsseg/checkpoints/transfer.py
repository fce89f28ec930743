"""Weights of a file into a network, by name and shape, with a report of what went where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsseg.config.errors import FssegError, UsageError
from fsseg.models.parts import parts_of

LEAST_ENCODER_SHARE = 0.9
_SHOWN = 5


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
        channels: what each image channel starts from, and which of the file are left out; None where they are the
            file's.
    """

    matched: tuple[str, ...]
    dropped: dict[str, str]
    missing: tuple[str, ...]
    reshaped: dict[str, dict[str, list[int]]]
    parameters: dict[str, tuple[int, int]]
    head: bool
    channels: dict[str, Any] | None = None

    @property
    def encoder_share(self) -> float:
        """Share of the encoder's parameters that came from the file."""
        filled, total = self.parameters["encoder"]
        return filled / total

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "matched": list(self.matched),
            "dropped": self.dropped,
            "missing": list(self.missing),
            "reshaped": self.reshaped,
            "parameters": {part: {"filled": f, "total": t} for part, (f, t) in self.parameters.items()},
            "encoder_share": round(self.encoder_share, 6),
            "head": self.head,
            "channels": self.channels,
        }


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
    )


def require_enough(report: TransferReport, *, allow_partial: bool) -> None:
    """Refuse a transfer that would pass for a pretrained network and is none.

    Raises:
        UsageError: less than 90 % of the encoder's parameters were filled, or tensors have another shape in the
            network, and that is not allowed.
    """
    if allow_partial or (report.encoder_share >= LEAST_ENCODER_SHARE and not report.reshaped):
        return
    filled, total = report.parameters["encoder"]
    lines = [
        f"The file does not fit the network of the plans: {report.encoder_share:.1%} of the encoder come from it,"
        f" {filled:,} of {total:,} parameters."
    ]
    lines += [f"  missing: {_some(report.missing)}"] if report.missing else []
    lines += [f"  of another shape: {_some([_shapes(*item) for item in report.reshaped.items()])}"] * bool(
        report.reshaped
    )
    lines += [f"  not used: {_some(list(report.dropped))}"] if report.dropped else []
    lines.append(
        f"  needed: {LEAST_ENCODER_SHARE:.0%}, and no tensor of another shape.\n"
        "  Give a file and plans that belong together; --allow-partial accepts a partly random network."
    )
    raise UsageError("\n".join(lines))


def _fill(target: Tensor, name: str, value: Tensor, filled: dict[str, Tensor]) -> None:
    if name in filled:
        if not torch.equal(filled[name], value):
            raise FssegError(f"The file holds {name!r} under two names with different values: it is damaged.")
        return
    if value.is_floating_point() and not torch.isfinite(value).all():
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


def _shapes(name: str, shapes: dict[str, list[int]]) -> str:
    return f"{name} {tuple(shapes['file'])} in the file, {tuple(shapes['network'])} in the network"


def _some(items: tuple[str, ...] | list[str]) -> str:
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
