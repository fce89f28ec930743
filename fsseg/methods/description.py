"""What there is to say of a method: in a line of a list, or in full; on a network also what it trains there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from fsseg.config.errors import FssegError
from fsseg.methods.registry import create_method, method_entry, method_names, preset_options

if TYPE_CHECKING:
    from torch import nn

    from fsseg.config.described import DescribedField

# What a family trains itself, besides the head.
_TRAINS = {
    "whole_network": "every weight, from the pretrained ones on",
    "scratch": "every weight, from random ones on",
    "decoder": "the decoder and the head",
    "head": "the head alone",
    "black_box": "layers of its own between the last features and the head, and the head",
    "selective": "pretrained parameters of one kind, and the head",
    "low_rank": "low-rank terms that are added to pretrained weights, and the head",
    "adapter": "layers of its own inside the network, and the head",
}


@dataclass(frozen=True)
class OnNetwork:
    """A method on a network with a head for one structure.

    Attributes:
        defined: whether it is defined there; None where there is no network to look at, and so are the others.
        reason: why it is not.
        notes: what to know of it there.
        trainable: parameters that it trains, without the head.
        head: parameters of the head.
    """

    defined: bool | None = None
    reason: str | None = None
    notes: list[str] | None = None
    trainable: int | None = None
    head: int | None = None


@dataclass(frozen=True)
class MethodLine:
    """A method in a list.

    Attributes:
        name: of the method or preset.
        summary: what it is, in one line.
        options: that the preset sets.
        mergeable: whether the result is a plain network.
        decoder: what `--decoder` may be, the default first.
        on_network: see `OnNetwork`.
    """

    name: str
    summary: str
    options: Mapping[str, Any]
    mergeable: bool
    decoder: tuple[str, ...]
    on_network: OnNetwork = OnNetwork()

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, those of the network beside the others."""
        return _flat(self)


@dataclass(frozen=True)
class MethodDescription:
    """A method in full.

    Attributes:
        name: of the method or preset.
        summary: what it is, in one line.
        text: of the docstring of its class.
        trains: in words.
        learning_rate: of the default recipe; None where no step is taken.
        mergeable, not_merged_because: whether the result is a plain network, and why not.
        decoder: what `--decoder` may be, the default first.
        presets: of the method by name, with the options that they set.
        options: with the defaults of the preset.
        on_network: see `OnNetwork`.
    """

    name: str
    summary: str
    text: str
    trains: str
    learning_rate: float | None
    mergeable: bool
    not_merged_because: str
    decoder: tuple[str, ...]
    presets: Mapping[str, Mapping[str, Any]]
    options: list[DescribedField]
    on_network: OnNetwork = OnNetwork()

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, those of the network beside the others."""
        return _flat(self)


def list_methods(network: nn.Module | None = None) -> list[MethodLine]:
    """Return every method and preset.

    Args:
        network: with a head for one structure, or None.
    """
    return [
        MethodLine(name, entry.summary, preset_options(name), entry.merges, entry.decoder, on_network(name, network))
        for name, entry in ((name, method_entry(name)) for name in method_names())
    ]


def describe_method(name: str, network: nn.Module | None = None) -> MethodDescription:
    """Describe a method or preset.

    Args:
        name: one of `fsseg methods`.
        network: with a head for one structure, or None.

    Raises:
        UsageError: there is no such method.
    """
    from fsseg.config.recipes import Recipe

    method, entry = create_method(name), method_entry(name)
    free = method.training_free
    return MethodDescription(
        name=name,
        summary=entry.summary,
        text=inspect.cleandoc(type(method).__doc__ or ""),
        trains="nothing by steps: the head is set from features" if free else _TRAINS[method.family],
        learning_rate=None if free else Recipe().learning_rates[method.family],
        mergeable=not method.not_merged_because,
        not_merged_because=method.not_merged_because,
        decoder=method.decoder_choices,
        presets={f"{name.partition(':')[0]}:{preset}": values for preset, values in entry.presets.items()},
        options=_options(name),
        on_network=on_network(name, network),
    )


def on_network(name: str, network: nn.Module | None) -> OnNetwork:
    """Return what a method with its default options is on a network, which is left as it is."""
    if network is None:
        return OnNetwork()
    from fsseg.methods.adapted_network import AdaptedNetwork

    try:
        adapted = AdaptedNetwork(deepcopy(network), create_method(name))
    except FssegError as error:
        return OnNetwork(defined=False, reason=str(error), notes=[])
    report = adapted.report()
    return OnNetwork(defined=True, reason="", notes=adapted.notes, trainable=report.trainable, head=report.head)


def _options(name: str) -> list[DescribedField]:
    from fsseg.config.described import as_yaml, described_fields

    preset = preset_options(name)
    return [
        replace(option, default=as_yaml(preset[option.name])) if option.name in preset else option
        for option in described_fields(method_entry(name).method_class().Options)
    ]


def _flat(said: MethodLine | MethodDescription) -> dict[str, Any]:
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(said).items()}
    del values["on_network"]
    return {**values, **asdict(said.on_network)}
