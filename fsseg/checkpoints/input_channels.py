"""Other image channels for a checkpoint: which of the new ones starts from which of its own, and the weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsseg.config.errors import FssegError, UsageError, unknown_name
from fsseg.config.results import JsonObject
from fsseg.data.channels import same_channels
from fsseg.models.networks import ArchitectureBlock, build_network


@dataclass(frozen=True)
class Channel:
    """An image channel of the new base.

    Attributes:
        name: as in the dataset.json of the target.
        source: index of the checkpoint's channel whose weights it starts from; None starts at zero.
        sharers: how many of the new channels start from this source, each with its weights / sharers.
    """

    name: str
    source: int | None
    sharers: int = 1


@dataclass(frozen=True)
class ChannelMap:
    """The image channels of the new base, in order, and those of the checkpoint."""

    old: tuple[str, ...]
    channels: tuple[Channel, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the new channels."""
        return tuple(channel.name for channel in self.channels)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Indices of the checkpoint's channels that no new one starts from."""
        return tuple(index for index in range(len(self.old)) if index not in {c.source for c in self.channels})

    def as_dict(self) -> JsonObject:
        """Return the map as JSON values."""
        return {"start": self.starts(), "left_out": self.names_left_out()}

    def starts(self) -> dict[str, str]:
        """Return what each new channel starts from: "kept", "CT", "CT / 2" or "zero"."""
        return {channel.name: self._start(channel) for channel in self.channels}

    def names_left_out(self) -> list[str]:
        """Return the checkpoint's channels that no new one starts from."""
        return [self.old[index] for index in self.left_out]

    def mixed(self, weight: Tensor) -> Tensor:
        """Return a weight (outputs, old channels, ...) as (outputs, new channels, ...)."""
        zero = torch.zeros_like(weight[:, 0])
        columns = [zero if c.source is None else weight[:, c.source] / c.sharers for c in self.channels]
        return torch.stack(columns, dim=1)

    def notes(self) -> list[str]:
        """Say what the new channels start from, where it is not all of their own weights."""
        sharers = {c.source: c.sharers for c in self.channels if c.source is not None and c.sharers > 1}
        shared = [
            f"{', '.join(c.name for c in self.channels if c.source == source)} start from the weights of"
            f" {self.old[source]!r} / {count} each: equal images in all of them give the features that one gave."
            for source, count in sharers.items()
        ]
        zero = [
            f"IGNORED FOR NOW: {channel.name!r} starts with zero weights. The output does not depend on it until a"
            " method trains the first convolution (full, l2_sp, low-rank updates there)."
            f" {channel.name}={spelled(self.old, 0)} would start it from the weights of {self.old[0]!r}."
            for channel in self.channels
            if channel.source is None
        ]
        return [*shared, *zero]

    def _start(self, channel: Channel) -> str:
        if channel.source is None:
            return "zero"
        name = self.old[channel.source]
        if channel.sharers > 1:
            return f"{name} / {channel.sharers}"
        return "kept" if channel.name == name else name


def channel_map(words: Sequence[str], old: Sequence[str]) -> ChannelMap:
    """Read NAME and NAME=OLD, where OLD is a channel of the checkpoint by name or by its number in dataset.json.

    Raises:
        UsageError: a word cannot be read, a name occurs twice, OLD is unknown or stands for several channels, or
            nothing is taken from the checkpoint.
    """
    pairs = [_pair(word) for word in words]
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise UsageError(
            f"--channels names {', '.join(map(repr, twice))} twice.\n  Every channel has a name of its own."
        )
    sources = [_source(name, wanted, old) for name, wanted in pairs]
    if all(source is None for source in sources):
        raise UsageError(
            f"--channels takes nothing from the checkpoint, whose channels are {_listed(old)}: all weights that read"
            " the image would be zero.\n  Say whose weights a new channel starts from, such as --channels"
            f" {' '.join(f'{name}={spelled(old, 0)}' for name, _ in pairs)}"
        )
    counts = Counter(sources)
    channels = (
        Channel(name, source, 1 if source is None else counts[source])
        for (name, _), source in zip(pairs, sources, strict=True)
    )
    return ChannelMap(tuple(old), tuple(channels))


def spelled(old: Sequence[str], index: int) -> str:
    """Return how a channel of the checkpoint is written behind "=": its name, or its number where the name repeats."""
    repeats = sum(same_channels([old[index]], [other]) for other in old) > 1
    return str(index) if repeats else old[index]


def mixed_weights(
    weights: Mapping[str, Tensor], architecture: ArchitectureBlock, channels: ChannelMap
) -> dict[str, Tensor]:
    """Return the weights for the new channels.

    What reads the image is found by building the network for two numbers of channels: those weights differ in their
    second axis and nowhere else. No name is looked at, so that copies under several names stay equal.

    Raises:
        UsageError: the network depends on the number of channels in another way.
        FssegError: the weights read another number of channels than the checkpoint says.
    """
    old, new = len(channels.old), len(channels.names)
    shapes, others = (_shapes(architecture, number) for number in (old, new if new != old else old + 1))
    readers = {name for name in {**shapes, **others} if shapes.get(name) != others.get(name)}
    for name in sorted(readers):
        _require_reader(name, shapes.get(name), others.get(name))
        if name in weights and (weights[name].ndim < 2 or weights[name].shape[1] != old):
            raise FssegError(
                f"The checkpoint says that it takes {old} image channel(s), but its {name} has the shape"
                f" {tuple(weights[name].shape)}: it is damaged."
            )
    return {name: channels.mixed(tensor) if name in readers else tensor for name, tensor in weights.items()}


def _pair(word: str) -> tuple[str, str | None]:
    name, separator, wanted = word.partition("=")
    if not name or (separator and not wanted):
        raise UsageError(f"--channels takes NAME or NAME=OLD, got {word!r}.\n  Write for example --channels CT PET=CT")
    return name, wanted if separator else None


def _source(name: str, wanted: str | None, old: Sequence[str]) -> int | None:
    asked = name if wanted is None else wanted
    found = [index for index, other in enumerate(old) if same_channels([asked], [other])]
    if wanted is None and not found:
        return None
    if not found and asked.isdecimal() and int(asked) < len(old):
        return int(asked)
    if not found:
        raise unknown_name("channel of the checkpoint", asked, old, f"Write {name}=OLD, or {name} for a start at zero.")
    if len(found) > 1:
        raise UsageError(
            f"The checkpoint has {len(found)} channels of the name {asked!r}: {_listed(old)}.\n"
            f"  Give the number of one, such as {name}={found[0]}"
        )
    return found[0]


def _listed(old: Sequence[str]) -> str:
    return ", ".join(f"{number}: {name}" for number, name in enumerate(old))


def _shapes(architecture: ArchitectureBlock, channels: int) -> dict[str, torch.Size]:
    network = build_network(architecture, input_channels=channels, output_channels=1, deep_supervision=False)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _require_reader(name: str, shape: torch.Size | None, other: torch.Size | None) -> None:
    if shape is not None and other is not None and len(shape) == len(other) >= 2:
        differs = [axis for axis in range(len(shape)) if shape[axis] != other[axis]]
        if differs == [1]:
            return
    raise UsageError(
        f"The image channels of this network cannot be changed: with their number {name} changes from"
        f" {'nothing' if shape is None else tuple(shape)} to {'nothing' if other is None else tuple(other)}.\n"
        "  Use data with the channels of the checkpoint."
    )
