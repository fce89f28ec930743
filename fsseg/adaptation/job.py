"""Building blocks of an adaptation: the structures with their head rows, the job, and the network that it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.recipes import DecoderChoice, HeadStart, Recipe
from fsseg.data.assembly import HIGHEST_INTEGER, paintable, renumbered
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import LabelMaps
from fsseg.methods.contract import Method
from fsseg.models.heads import BACKGROUND, RANDOM, replace_heads, row_sources
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.mirroring import Flips, flips_of_adaptation
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.training.seeding import seeded


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


@dataclass(frozen=True)
class Job:
    """One adaptation: everything but the support volumes. `method` says what to build; it is never injected."""

    base: ModelFolder
    target: Target
    method: Method
    decoder: DecoderChoice
    recipe: Recipe
    seed: int
    device: torch.device

    @property
    def patch_size(self) -> list[int]:
        """Patch of the base's plans, in z, y, x."""
        return list(self.base.configuration_manager().patch_size)

    @cached_property
    def flips(self) -> Flips:
        """Flips in training and prediction, and why; `UsageError` where the recipe asks for what there cannot be."""
        base = self.base if self.method.uses_pretrained else None
        return flips_of_adaptation(self.recipe, self.target.names, base, self.target.of_dataset)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the channels of the head stand for."""
        return ((BACKGROUND,) if self.recipe.activation == "softmax" else ()) + self.target.names

    def model(self, support: Sequence[str] = (), random: Sequence[str] = ()) -> ModelFolder:
        """Return the model folder of the adaptation to support cases, but for its weights.

        Args:
            support: the cases.
            random: tensors of the base that are random, and that the adaptation leaves so.
        """
        dataset_json = self.base.dataset_json_with(
            self.integers(), self.recipe.activation, support, random, file_ending=self.target.file_ending
        )
        axes, step = self.flips.axes or None, self.recipe.tile_step_size
        return replace(self.base, dataset_json=dataset_json, mirroring_axes=axes, tile_step_size=step)

    def decides(self) -> dict[str, Any]:
        """Return what of the base and the device decides a training, as plain JSON values."""
        block = resolved(self.base.plans, self.base.configuration)
        where = {"base": self.base.sha256, "configuration": block, "device": self.device.type}
        return {**where, "mirroring_axes": self.flips.axes}

    def integers(self) -> dict[str, tuple[int, ...]]:
        """Return the integers of each structure in the label maps that the adapted network writes.

        They are those of the dataset, so that predictions can be laid over its label maps and nnU-Net's own evaluation
        compares like with like. The classes of a softmax are numbered by its channels, and nnU-Net writes 8 bits.
        """
        return self._of_dataset() if self.keeps_integers else renumbered(self.target.structures, self.target.names)

    @property
    def keeps_integers(self) -> bool:
        """Whether the adapted network writes the integers of the dataset."""
        highest = max(map(max, self._of_dataset().values()))
        return self.recipe.activation == "sigmoid" and highest <= HIGHEST_INTEGER

    def _of_dataset(self) -> dict[str, tuple[int, ...]]:
        return paintable(self.target.structures.integers, self.target.structures.highest_integer)


def make_target(
    base: ModelFolder,
    dataset_json: dict[str, Any],
    structures: Structures,
    names: Sequence[str],
    *,
    head: HeadStart = "base",
    uses_pretrained: bool = True,
) -> Target:
    """Match structures of a dataset with the head rows of the base; containing structures come first.

    With `head` "new", or a method that leaves the base's weights aside, none is matched: every structure gets a new
    row, also where the base has one.

    Args:
        base: the model to adapt.
        dataset_json: of the dataset.
        structures: all structures of the dataset.
        names: those to adapt to.
        head: whether known structures start from their head rows.
        uses_pretrained: whether the method starts from the base.
    """
    ordered = tuple(renumbered(structures, tuple(names)))
    rows = base.head_rows() if head == "base" and uses_pretrained else {}
    base_rows = {name: rows.get(name) for name in ordered}
    return Target(
        label_maps=LabelMaps(sha256=structures.integers_sha256, highest=structures.highest),
        file_ending=dataset_json["file_ending"],
        structures=structures.subset(ordered),
        base_rows=base_rows,
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


def require_rate(recipe: Recipe, method: Method) -> None:
    """Raise `UsageError` if a recipe does not say how fast to train a method."""
    if not method.training_free:
        recipe.rates(method.family)


def build_adapted(job: Job, volumes: Sequence[Volume]) -> AdaptedNetwork:
    """Build the network, its head and the method, seeded by the job.

    Methods keep the state of a training, so every network gets one of its own, with the options of the job's.
    """
    rows = [job.target.base_rows[name] for name in job.target.names]
    novel = [
        RANDOM if job.recipe.new_head_rows == "random" else frequency(volumes, job.target, channel)
        for channel in range(len(rows))
    ]
    base = job.base.activation if job.method.uses_pretrained else "sigmoid"  # a new network has no background row
    sources, minus = row_sources(rows, novel, base=base, activation=job.recipe.activation)
    with seeded(job.seed):
        network = job.base.build_network() if job.method.uses_pretrained else job.base.build_untrained_network()
        replace_heads(network, sources, minus)
        return AdaptedNetwork(network, type(job.method)(job.method.options), job.decoder)


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
