"""The contract of a family: how its files are recognised, and what they become."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fsseg.checkpoints.container import Checkpoint
from fsseg.data.assembly import region_labels

ANY_MODALITY = "any"  # channel name of networks that were trained on images of all kinds, z-scored
NO_HEAD: dict[str, Any] = {"labels": {"background": 0}}
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
    plans: dict[str, Any] | None
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
class Family:
    """A family of checkpoint files.

    Attributes:
        title: the project, and which of its files.
        recognises: whether a file is one of the family, by its names and shapes.
        translate: turn a file into a translation; its second argument is the stem that the user chose, or None.
        reference: the paper.
        licence: of the weights, "unknown" where the project does not state one.
        supervised_on: collections whose labels the weights have seen: evaluating on them tells nothing about new data.
            Empty for self-supervised weights, None where it is not known.
        stems: whether files may have several stems to choose from.
    """

    title: str
    recognises: Callable[[Checkpoint], bool]
    translate: Callable[[Checkpoint, str | None], Translation]
    reference: str
    licence: str = "unknown"
    supervised_on: tuple[str, ...] | None = None
    stems: bool = False


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


def one_structure_a_row(names: Sequence[str], inside: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the labels of a sigmoid head whose row i is the structure names[i] and has the integer i + 1.

    Args:
        names: structures in the order of the rows.
        inside: structure -> the structure that contains it, where that is only one.
    """
    integers: dict[str, tuple[int, ...]] = {name: (row + 1,) for row, name in enumerate(names)}
    for inner, outer in (inside or {}).items():
        integers[outer] += integers[inner]
    return region_labels(integers)
