"""The structures that an adaptation is for, with the head row of the base that each starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.data.assembly import paintable, renumbered
from fsseg.data.channels import channel_names
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume
from fsseg.methods.adapter_file import LabelMaps
from fsseg.nnunet.raw_dataset import RawDataset


@dataclass(frozen=True)
class LabelledDataset:
    """What an adaptation needs to know of a dataset besides its files.

    Attributes:
        name: for messages.
        dataset_json: content of its dataset.json.
        structures: what its integers mean, and what each case annotates.
    """

    name: str
    dataset_json: dict[str, Any]
    structures: Structures

    @classmethod
    def of(cls, raw: RawDataset) -> "LabelledDataset":
        """Return what a raw dataset is."""
        return cls(raw.path.name, raw.dataset_json, raw.structures)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Image channels, in order."""
        return channel_names(self.dataset_json)


class Target(StrictModel):
    """The structures to adapt to, in channel order, and the base's head row that each starts from (None: a new one).

    `label_maps` says whose label maps show them, `file_ending` how its files are named, and `of_dataset` what else the
    dataset has: those names tell what a letter in one of these means.
    """

    label_maps: LabelMaps
    file_ending: str
    structures: Structures
    base_rows: dict[str, int | None]
    of_dataset: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Structures in channel order."""
        return self.structures.names

    def subset(self, names: tuple[str, ...]) -> "Target":
        """Return a target of some of the structures, in their order."""
        rows = {name: self.base_rows[name] for name in names}
        return self.model_copy(update={"structures": self.structures.subset(names), "base_rows": rows})

    def integers_of_dataset(self) -> dict[str, tuple[int, ...]]:
        """Return the integers of each structure in the dataset's label maps, in the order in which they are painted."""
        return paintable(self.structures.integers, self.structures.highest_integer)

    def integers_from_one(self) -> dict[str, tuple[int, ...]]:
        """Return integers of their own for the structures."""
        return renumbered(self.structures, self.names)


def make_target(dataset: LabelledDataset, names: Sequence[str], head_rows: dict[str, int]) -> Target:
    """Match structures of a dataset with the head rows of the base; containing structures come first.

    Args:
        dataset: the dataset.
        names: the structures to adapt to.
        head_rows: structure -> row of the base's head that it starts from; others get a new row.
    """
    structures = dataset.structures
    ordered = tuple(renumbered(structures, tuple(names)))
    return Target(
        label_maps=LabelMaps(sha256=structures.integers_sha256, highest=structures.highest),
        file_ending=dataset.dataset_json["file_ending"],
        structures=structures.subset(ordered),
        base_rows={name: head_rows.get(name) for name in ordered},
        of_dataset=structures.names,
    )


def require_classes(target: Target, cases: Sequence[str]) -> None:
    """Require that the structures can be classes of a softmax: one a voxel, the rest background.

    Raises:
        UsageError: structures overlap, or a support case leaves something unknown.
    """
    problems = []
    names = target.names
    problems += [f"{first} and {second} overlap" for first, second in target.structures.overlapping()]
    for case in cases:
        annotation = target.structures.annotation(case)
        unknown = [name for name in names if name not in annotation.annotated or name in annotation.z_extent]
        if unknown:
            problems.append(f"{case} leaves (part of) {', '.join(unknown)} unknown, which would count as background")
    if problems:
        raise UsageError(
            "A softmax gives every voxel one class, but here:\n  - " + "\n  - ".join(problems) + "\n"
            "  Use recipe.activation=sigmoid, or leave these structures or cases out."
        )


def frequency(volumes: Sequence[Volume], target: Target, channel: int) -> float:
    """Return the share of a structure among the voxels that are annotated for it."""
    integers = target.structures.integers[target.names[channel]]
    foreground = annotated = 0
    for volume in volumes:
        valid = volume.zone_annotated[volume.zones, channel]
        labels = np.moveaxis(np.asarray(volume.labels[0]), volume.zone_axis, 0)[valid]
        foreground += int(np.isin(labels, integers).sum())
        annotated += labels.size
    return foreground / max(1, annotated)
