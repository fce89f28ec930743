"""The contract of a family: how its files are recognised, and what they become."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.published import Trait
from fsseg.data.assembly import region_labels
from fsseg.data.contents import DatasetContent
from fsseg.nnunet.contents import PlansContent

ANY_MODALITY = "any"  # channel name of networks that were trained on images of all kinds, z-scored
NO_HEAD: DatasetContent = {"labels": {"background": 0}}
WHOLE = ("encoder", "decoder", "other")  # parts of a network, heads aside
ENCODER_ONLY = ("encoder",)


@dataclass(frozen=True)
class Translation:
    """A file in the words of nnU-Net and fsseg.

    Attributes:
        weights: tensors under the names of the network.
        dropped: tensors of the file that are left out on purpose -> why.
        plans: plans of the network; None where the file does not say enough, for which see `plans_missing`.
        channel_names: image channels, as in dataset.json.
        labels: `labels` and `regions_class_order` of dataset.json, in the order of the head's rows; NO_HEAD where the
            file has no head that structures can be read off.
        holds: parts of the network that such a file is to fill; others may be random.
        configuration: name of the configuration in the plans.
        mirroring_axes: axes that test-time mirroring may flip.
        file_ending: of the images.
        licence: of this file, where the file says more than its family.
        random: tensors that hold random values in the file, as it says itself.
        carried: further entries of its dataset.json that go on.
        plans_missing: what the file does not say.
        architecture: architecture block of the network, where it is known although `plans` is None.
        inputs: other files that were read.
        notes: what a user should know: assumptions, and what does not come from the file.
    """

    weights: dict[str, Tensor] = field(repr=False)
    dropped: dict[str, str] = field(repr=False)
    plans: PlansContent | None
    channel_names: tuple[str, ...] = ("CT",)
    labels: Mapping[str, Any] = field(default_factory=lambda: NO_HEAD)
    holds: tuple[str, ...] = WHOLE
    configuration: str = "3d_fullres"
    mirroring_axes: tuple[int, ...] | None = None
    file_ending: str = ".nii.gz"
    licence: str | None = None
    random: tuple[str, ...] = ()
    carried: Mapping[str, Any] = field(default_factory=dict)
    plans_missing: str = ""
    architecture: Mapping[str, Any] | None = None
    inputs: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What the user says of a file. Most families know it themselves; see `Family.takes`.

    Attributes:
        stem: id of a stem, for files with several.
        labels: structures of the head, in the order of its rows.
        activation: "sigmoid" or "softmax" of the head; a softmax has a row for background before the structures.
        spacing: voxel size in mm, in the axis order of `orientation`.
        hu: window that was scaled to 0 to 1.
        orientation: to what the axes of the image point, such as RAS.
        patch_merging: of a Swin UNETR, "legacy" for networks trained with MONAI before 1.5, else "merging".
        has_plans: whether plans were given, which say spacing, window and orientation.
    """

    stem: str | None = None
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    spacing: tuple[float, float, float] | None = None
    hu: tuple[float, float] | None = None
    orientation: str | None = None
    patch_merging: str | None = None
    has_plans: bool = False


@dataclass(frozen=True)
class ShippedNetwork:
    """The network of a family's files as shipped plans have it, for what is to be known of it without a file.

    Attributes:
        plans: name of the plans.
        batch_size, patch_size: where the files have another one than the plans; in the axis order of the plans.
    """

    plans: str
    batch_size: int | None = None
    patch_size: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Family:
    """A family of checkpoint files.

    Attributes:
        title: the project, and which of its files.
        recognises: whether a file is one of the family, by its names and shapes.
        translate: turn a file into a translation, with what the user says of it.
        reference: the paper.
        licence: of the weights, "unknown" where the project does not state one.
        supervised_on: collections whose labels the weights have seen: evaluating on them tells nothing about new data.
            Empty for self-supervised weights, None where it is not known.
        takes: what of `Asked` the family takes, by name; the user need not say anything else.
        traits: sizes of the published files, for families whose names other networks have, too. Their
            files hold no other tensors than those of their network, and of heads that are left out.
        alike: the family that takes networks of the same names that are not the published ones.
        network: of all its files; None where they differ.
    """

    title: str
    recognises: Callable[[Checkpoint], bool]
    translate: Callable[[Checkpoint, Asked], Translation]
    reference: str
    licence: str = "unknown"
    supervised_on: tuple[str, ...] | None = None
    takes: tuple[str, ...] = ()
    traits: tuple[Trait, ...] = ()
    alike: str = ""
    network: ShippedNetwork | None = None

    @property
    def is_exact(self) -> bool:
        """Whether a file may hold no tensor that its network lacks, but for those that are left out on purpose."""
        return bool(self.traits) or "labels" in self.takes


def split_off(weights: Mapping[str, Tensor], reasons: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Separate tensors that are left out on purpose.

    Args:
        weights: tensors by name.
        reasons: regular expression, which a name matches from its start on -> why it is left out.

    Returns:
        The tensors that stay, and name -> why of the others.
    """
    kept: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for name, tensor in weights.items():
        reason = next((why for pattern, why in reasons.items() if re.match(pattern, name)), None)
        if reason is None:
            kept[name] = tensor
        else:
            dropped[name] = reason
    return kept, dropped


def one_structure_a_row(names: Sequence[str], inside: Mapping[str, str] | None = None) -> DatasetContent:
    """Return the labels of a sigmoid head whose row i is the structure names[i] and has the integer i + 1.

    Args:
        names: structures in the order of the rows.
        inside: structure -> the structure that contains it, where that is only one.
    """
    integers: dict[str, tuple[int, ...]] = {name: (row + 1,) for row, name in enumerate(names)}
    for inner, outer in (inside or {}).items():
        integers[outer] += integers[inner]
    return region_labels(integers)
