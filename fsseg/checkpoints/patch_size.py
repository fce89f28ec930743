"""Another patch size for a checkpoint, where its network can read it."""

from collections.abc import Sequence

from torch import nn

from fsseg.config.errors import UsageError
from fsseg.models.extents import nearest_sizes, sees_extents, why_unreadable
from fsseg.models.networks import build_network
from fsseg.nnunet.configurations import plans_with, resolved
from fsseg.nnunet.contents import PlansContent


def with_patch_size(
    plans: PlansContent, configuration: str, patch: Sequence[int], channels: int
) -> tuple[PlansContent, list[str]]:
    """Return plans with another patch, in their axis order, and notes; they keep one configuration.

    Raises:
        UsageError: the network cannot read such a patch; the nearest sizes that it can are listed.
    """
    block = resolved(plans, configuration)
    network = build_network(
        block["architecture"], input_channels=channels, output_channels=1, deep_supervision=False
    ).to("meta")
    old = list(block["patch_size"])
    _require_readable(network, channels, list(patch), old, int(block["batch_size"]), plans["transpose_forward"])
    notes = []
    if list(patch) != old and sees_extents(network):
        notes.append(
            f"Patch {_by(patch)} instead of {_by(old)}: norms take their statistics from a patch, so features are those"
            " of another field of view than in the training."
        )
    return plans_with(plans, configuration, patch_size=list(patch)), notes


def _require_readable(
    network: nn.Module, channels: int, patch: list[int], old: list[int], batch_size: int, transpose: Sequence[int]
) -> None:
    def readable(extents: list[int]) -> bool:
        return not why_unreadable(network, channels, extents, batch_size)

    reason = why_unreadable(network, channels, patch, batch_size)
    if not reason:
        return
    # An axis is judged with the others as in the plans; if each fits so, it is all of them together that do not.
    alone = all(readable(_changed(old, axis, size)) for axis, size in enumerate(patch))
    others = patch if alone else old
    lines = []
    for axis, size in enumerate(patch):
        sizes = nearest_sizes(lambda s, axis=axis: readable(_changed(others, axis, s)), size)  # type: ignore[misc]
        found = "fits" if size in sizes else f"does not fit, nearest: {' or '.join(map(str, sizes)) or 'none found'}"
        lines.append(f"    {'zyx'[transpose[axis]]}: {size} {found}")
    raise UsageError(
        f"The network of the checkpoint cannot read patches of {_by(patch)} voxels: {reason}.\n"
        f"  each axis, with {_by(others)} on the others:\n"
        + "\n".join(lines)
        + "\n  Give one of these with --patch-size."
    )


def _changed(extents: list[int], axis: int, size: int) -> list[int]:
    return [*extents[:axis], size, *extents[axis + 1 :]]


def _by(extents: Sequence[int]) -> str:
    return " x ".join(map(str, extents))
