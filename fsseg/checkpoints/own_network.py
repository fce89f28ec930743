"""Networks of the user's own training in MONAI: what no file says of them, the user has to say."""

from collections.abc import Mapping

from torch import Tensor

from fsseg.checkpoints.family import ANY_MODALITY, Asked, Translation, one_structure_a_row
from fsseg.checkpoints.plans import Intensities, NetworkInput, make_plans
from fsseg.config.errors import UsageError
from fsseg.data.contents import DatasetContent
from fsseg.models.networks import ArchitectureBlock
from fsseg.nnunet.contents import PlansContent

TAKES = ("labels", "activation", "spacing", "hu", "orientation")
_OF_PLANS = ("spacing", "hu", "orientation")
_PATCH = (96, 96, 96)
_AXES = "SAR"  # to what the axes of an image point as nnU-Net reads it: z, y, x in RAS
_EXAMPLES = {
    "labels": "--labels NAME... (structures of the head, in the order of its rows)",
    "activation": "--activation sigmoid|softmax",
    "spacing": "--spacing X Y Z (mm, in the axis order of the orientation)",
    "hu": "--hu LOW HIGH (the window that was scaled to 0 to 1)",
    "orientation": "--orientation RAS (to what the axes of its images pointed)",
    "patch_merging": "--patch-merging legacy|merging (legacy: trained with MONAI before 1.5)",
}


def own_network(
    asked: Asked,
    weights: Mapping[str, Tensor],
    architecture: ArchitectureBlock,
    *,
    name: str,
    channels: int,
    takes: tuple[str, ...] = TAKES,
    notes: tuple[str, ...] = (),
) -> Translation:
    """Return the translation of a network of the user's own.

    Args:
        asked: what the user says of it.
        weights: under the names of the network, the head as heads.0.
        architecture: block of the network, read off the weights.
        name: of the family.
        channels: image channels.
        takes: what the user has to say; spacing, window and orientation only where no plans say it.
        notes: what is assumed of the network, because shapes do not show it.

    Raises:
        UsageError: something is missing, or does not fit the head.
    """
    _require_said(asked, name, takes)
    rows = weights["heads.0.weight"].shape[0]
    plans = None if asked.has_plans else _plans(asked, name, architecture, channels)
    return Translation(
        dict(weights),
        {},
        plans,
        channel_names=("CT",) if channels == 1 and not asked.has_plans else (ANY_MODALITY,) * channels,
        labels=_labels(asked, rows),
        architecture=architecture,
        notes=("A network of your own: labels, spacing, window and orientation are as you say.", *notes),
    )


def _require_said(asked: Asked, name: str, takes: tuple[str, ...]) -> None:
    needed = [what for what in takes if not (asked.has_plans and what in _OF_PLANS)]
    missing = [_EXAMPLES[what] for what in needed if getattr(asked, what) is None]
    if missing:
        alone = [what for what in needed if getattr(asked, what) is None and what in _OF_PLANS]
        plans = "\n  --plans FILE says spacing, window and orientation, too." if alone else ""
        raise UsageError(
            f"A file of {name} does not say how its network was trained. Missing:\n  - "
            + "\n  - ".join(missing)
            + plans
        )


def _labels(asked: Asked, rows: int) -> DatasetContent:
    """Return the labels of dataset.json, by the rows of the head."""
    names = list(asked.labels or ())
    softmax = asked.activation == "softmax"
    if softmax and names[:1] == ["background"]:
        names = names[1:]
    wanted = rows - 1 if softmax else rows
    if len(names) != wanted or "background" in names or len({*names}) != len(names) or not all(names):
        why = f"background and {wanted} structures" if softmax else f"{wanted} structures"
        raise UsageError(
            f"The head has {rows} rows, which with a {asked.activation} are {why}; --labels names {len(names)}:"
            f" {', '.join(names) or 'none'}.\n  Name each structure once, in the order of the rows, without background."
        )
    if softmax:
        return {"labels": {"background": 0, **{name: row + 1 for row, name in enumerate(names)}}}
    return one_structure_a_row(names)


def _plans(asked: Asked, name: str, architecture: ArchitectureBlock, channels: int) -> PlansContent:
    assert asked.spacing is not None  # _require_said saw to these
    assert asked.hu is not None
    assert asked.orientation is not None
    if channels != 1:
        raise UsageError(
            f"The network reads {channels} image channels, of which --hu can only speak for one.\n"
            "  Give plans that say how each is normalised with --plans."
        )
    low, high = asked.hu
    if not low < high:
        raise UsageError(f"--hu takes the lower end of the window first, got {low:g} {high:g}.")
    transpose = _transpose(asked.orientation)
    plans = make_plans(
        name,
        f"A network of the user's own: HU {low:g} to {high:g} scaled to 0 to 1, axes {asked.orientation}.",
        architecture,
        NetworkInput(
            spacing=asked.spacing,
            patch=_PATCH,
            intensities=[Intensities.window(low, high)],
            axes="xyz",
        ),
    )
    plans["transpose_forward"] = transpose
    plans["transpose_backward"] = [transpose.index(axis) for axis in range(len(transpose))]
    return plans


def _transpose(orientation: str) -> list[int]:
    """Return which axis of an image in z, y, x each axis of the network is."""
    letters = orientation.upper()
    if sorted(letters) != sorted(_AXES):
        raise UsageError(
            f"Images can be read with axes that point to R, A and S in any order, got --orientation {orientation}.\n"
            "  allowed: RAS, ARS, SAR and so on. A network trained on axes to L, P or I would see images mirrored."
        )
    return [_AXES.index(letter) for letter in letters]
