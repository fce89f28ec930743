"""What an import changes of a checkpoint's input: other plans, image channels, patch size, depth."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fsseg.checkpoints.channel_plans import with_channels
from fsseg.checkpoints.depth import at_depth, same_unet
from fsseg.checkpoints.family import Translation
from fsseg.checkpoints.input_channels import ChannelMap, mixed_weights
from fsseg.checkpoints.patch_size import with_patch_size
from fsseg.checkpoints.plans import CONFIGURATION
from fsseg.checkpoints.same_architecture import require_same_meaning
from fsseg.config.errors import UsageError
from fsseg.models.networks import ArchitectureBlock
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import ConfigurationContent, PlansContent
from fsseg.nnunet.normalization import CT_SCHEME, STATISTICS
from fsseg.nnunet.planning import read_plans_file
from fsseg.nnunet.plans_content import require_patch_fits

_OF_LEVELS = ("features_per_stage", "strides", "kernel_sizes")


def with_input(
    translation: Translation,
    file: Path,
    *,
    plans_file: Path | None,
    channels: ChannelMap | None,
    patch_size: Sequence[int] | None,
) -> Translation:
    """Return a translation with the input that the user asks for; its plans are there from here on.

    Args:
        translation: of the file.
        file: the checkpoint, for messages.
        plans_file: plans to use instead of those of the family or the file.
        channels: other image channels; None leaves them as they are.
        patch_size: in voxels, in the axis order of the plans; None leaves it as the plans say.

    Raises:
        UsageError: there are no plans, or they do not fit; the network cannot take such channels or patches.
        FssegError: the file and its plans contradict each other.
    """
    names = translation.channel_names if channels is None else channels.names
    if plans_file is not None:
        translation = _with_plans(translation, file, plans_file, len(names))
    elif translation.plans is None:
        raise UsageError(
            f"{file} cannot be imported without plans. {translation.plans_missing}\n"
            "  Give plans with --plans FILE: a file or a name of `fsseg preprocess --list-plans`"
            f"{'; the network comes from the weights' if translation.architecture is not None else ''}."
        )
    plans, configuration, notes = translation.plans, translation.configuration, list(translation.notes)
    assert plans is not None  # one of the two branches above saw to it
    if channels is not None:
        notes += channels.notes()
        if plans_file is None:
            plans, more = with_channels(plans, configuration, channels)
            notes += more
        architecture = resolved(plans, configuration)["architecture"]
        translation = replace(translation, weights=mixed_weights(translation.weights, architecture, channels))
    if patch_size is not None:
        plans, more = with_patch_size(plans, configuration, patch_size, len(names))
        notes += more
    return replace(translation, plans=plans, channel_names=names, notes=tuple(notes))


def _with_plans(translation: Translation, file: Path, plans_file: Path, channels: int) -> Translation:
    plans = _read_plans(plans_file, file, channels)
    notes = [_plans_note(translation, plans, plans_file)]
    old = _architecture(translation)
    if translation.plans is None and (old is None or not _has_levels_of(old, plans)):
        notes = [*_use_network(old, plans, plans_file), *notes]
        return replace(translation, plans=plans, configuration=CONFIGURATION, notes=(*translation.notes, *notes))
    assert old is not None
    new = resolved(plans, CONFIGURATION)["architecture"]
    require_same_meaning(old, new)
    renumbered = at_depth(translation.weights, old, new)
    random = {name: translation.weights[name] for name in translation.random if name in translation.weights}
    notes += [renumbered.note] if renumbered.note else []
    return replace(
        translation,
        plans=plans,
        configuration=CONFIGURATION,
        mirroring_axes=_mirroring_axes(translation, plans),
        weights=renumbered.weights,
        random=tuple(at_depth(random, old, new).weights),
        dropped={**translation.dropped, **renumbered.dropped},
        notes=(*translation.notes, *notes),
    )


def _mirroring_axes(translation: Translation, plans: PlansContent) -> tuple[int, ...] | None:
    """Return the axes that a checkpoint allows to mirror, as axes of the arrays of other plans."""
    if translation.plans is None or translation.mirroring_axes is None:
        return translation.mirroring_axes
    ours, theirs = plans["transpose_forward"], translation.plans["transpose_forward"]
    return tuple(sorted(ours.index(theirs[axis]) for axis in translation.mirroring_axes))


def _architecture(translation: Translation) -> ArchitectureBlock | None:
    """Return the architecture block of a checkpoint's network, None where it is not known."""
    if translation.plans is not None:
        return resolved(translation.plans, translation.configuration)["architecture"]
    return None if translation.architecture is None else dict(translation.architecture)


def _has_levels_of(network: ArchitectureBlock, plans: PlansContent) -> bool:
    """Return whether plans describe a network, but for the number of its levels."""
    other = resolved(plans, CONFIGURATION)["architecture"]
    if not same_unet(network, other):
        return False
    ours, theirs = network["arch_kwargs"], other["arch_kwargs"]
    return all(a == b for key in _OF_LEVELS for a, b in zip(ours[key], theirs[key], strict=False))


def _use_network(network: ArchitectureBlock | None, plans: PlansContent, plans_file: Path) -> list[str]:
    """Put the network of a checkpoint, where it is known, into plans that were given for the rest; return a note."""
    if network is None:
        return []
    plans["configurations"][CONFIGURATION]["architecture"] = network
    require_patch_fits(resolved(plans, CONFIGURATION), plans_file)
    return [f"The network is read off the weights: {plans_file} decides the rest."]


def _read_plans(plans_file: Path, file: Path, channels: int) -> PlansContent:
    plans = read_plans_file(plans_file)
    schemes = plans["configurations"][CONFIGURATION]["normalization_schemes"]
    if len(schemes) != channels:
        raise UsageError(
            f"{plans_file} is for {len(schemes)} image channel(s), but the base from {file} takes {channels}.\n"
            "  Give plans for as many, or name the channels of the base with --channels."
        )
    if not plans.get(STATISTICS):
        if CT_SCHEME in schemes:
            raise UsageError(
                f"{plans_file} takes its intensity statistics from a dataset, and an import has none.\n"
                "  Give the plans that `fsseg preprocess` wrote for a dataset, or write the statistics into a copy."
            )
        plans[STATISTICS] = {str(channel): {} for channel in range(len(schemes))}
    return plans


def _plans_note(translation: Translation, plans: PlansContent, plans_file: Path) -> str:
    spacing = ""
    if translation.plans is not None:
        ours = _spacing(plans, resolved(plans, CONFIGURATION))
        theirs = _spacing(translation.plans, resolved(translation.plans, translation.configuration))
        spacing = f" Spacing {ours}; the checkpoint's own plans say {theirs}."
    return (
        f"Plans from {plans_file}: spacing, orientation and intensities may differ from those of the training.{spacing}"
    )


def _spacing(plans: PlansContent, block: ConfigurationContent) -> str:
    axes = ", ".join("zyx"[axis] for axis in plans["transpose_forward"])
    return f"{' x '.join(f'{size:g}' for size in block['spacing'])} mm ({axes})"
