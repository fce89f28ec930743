"""MultiTalent v2: a residual encoder U-Net with a head and, in some files, a first convolution per dataset."""

import re

from torch import Tensor

from fsseg.checkpoints.architectures import residual_encoder_l, unlike_residual_encoder_l
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import ANY_MODALITY, Asked, Family, ShippedNetwork, Translation
from fsseg.checkpoints.plans import NetworkInput, make_plans
from fsseg.config.errors import UsageError, unknown_name
from fsseg.nnunet.contents import PlansContent

_HEAD = re.compile(r"decoder\.seg_layers\.[^.]+\.\d+\.")
_STEM = re.compile(r"((?:decoder\.)?encoder\.stem\.)(?!convs\.)([^.]+)\.(convs\..+)")


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.has_prefix("encoder.stem.") and any(_HEAD.match(name) for name in checkpoint.weights)


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    weights: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    chosen = _chosen_stem(checkpoint, asked.stem)
    for name, tensor in checkpoint.weights.items():
        match = _STEM.match(name)
        if _HEAD.match(name):
            dropped[name] = "head of one dataset, a softmax over its labels"
        elif match is None:
            weights[name] = tensor
        elif match[2] == chosen:
            weights[match[1] + match[3]] = tensor
        else:
            dropped[name] = f"stem of another dataset; --stem {match[2]} takes this one"
    channels = weights["encoder.stem.convs.0.conv.weight"].shape[1]
    different = unlike_residual_encoder_l(weights)
    plans = None if different else _plans(weights, channels)
    notes = (
        *((f"Stem {chosen!r} of {len(_stems(checkpoint))}.",) if chosen else ()),
        "Every image is z-scored, as the project does by default. One of the two CT models of folder 617 was trained"
        " with CT normalisation instead: for that one give --plans.",
    )
    names = (ANY_MODALITY,) * channels
    return Translation(weights, dropped, plans, channel_names=names, plans_missing=different, notes=notes)


def _plans(weights: dict[str, Tensor], channels: int) -> PlansContent:
    return make_plans(
        "multitalent_v2",
        "Residual encoder U-Net of MultiTalent v2: 1 mm, 192^3 patches, each image z-scored.",
        residual_encoder_l(weights),
        NetworkInput(
            spacing=(1.0, 1.0, 1.0),
            patch=(192, 192, 192),
            intensities=[None] * channels,
            axes="zyx",
        ),
    )


def _stems(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the image channels of each stem by its id, for files with several."""
    matches = ((_STEM.match(name), tensor) for name, tensor in checkpoint.weights.items())
    return {match[2]: tensor.shape[1] for match, tensor in matches if match and match[3] == "convs.0.conv.weight"}


def _chosen_stem(checkpoint: Checkpoint, stem: str | None) -> str | None:
    stems = _stems(checkpoint)
    if not stems:
        if stem is not None:
            raise UsageError(f"{checkpoint.path} has one stem without an id: leave --stem out.")
        return None
    if stem is None and len(stems) == 1:
        return next(iter(stems))
    if stem is None:
        listing = ", ".join(f"{name} ({channels} channel(s))" for name, channels in sorted(stems.items()))
        raise UsageError(
            f"{checkpoint.path} has {len(stems)} stems, one for each dataset: {listing}\n"
            "  Choose the one whose dataset is most like yours with --stem ID."
        )
    if stem not in stems:
        raise unknown_name("stem", stem, stems)
    return stem


FAMILY = Family(
    title="residual encoder U-Net of MultiTalent v2",
    recognises=_recognises,
    translate=_translate,
    reference="Ulrich et al., MICCAI 2023 (MultiTalent), branch public_MT",
    takes=("stem",),
    network=ShippedNetwork("resenc_l_zscore"),
)
