"""Swin UNETR files: their names in MONAI's words, and what they all have in common."""

import re
from collections.abc import Mapping

from torch import Tensor

from fsseg.checkpoints.architectures import legacy_swin_unetr
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import ENCODER_ONLY, Translation
from fsseg.checkpoints.plans import FULL_WINDOW, Intensities, NetworkInput, make_plans
from fsseg.checkpoints.published import Trait

PATCH_EMBEDDING = "swinViT.patch_embed.proj.weight"
_PATCH = (96, 96, 96)
_SPACING = (1.5, 1.5, 1.5)
_OTHER_SPELLINGS = ((r"^swin_vit\.", "swinViT."), (r"\.mlp\.fc([12])\.", r".mlp.linear\1."))
SWIN_WIDTH = Trait(
    (PATCH_EMBEDDING, "swin_vit.patch_embed.proj.weight"), 0, "features in its first stage", width="swin_unetr"
)
LEGACY_NOTE = (
    "Patch merging in the order of MONAI before 1.5, which these weights were trained with; other orders load without"
    " complaint and give other features."
)


def monai_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with swin_vit as swinViT and the layers of an MLP as linear1 and linear2."""
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in _OTHER_SPELLINGS:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def is_swin_unetr(checkpoint: Checkpoint) -> bool:
    """Return whether a file holds a whole Swin UNETR of the first version, encoder and decoder."""
    names = monai_names(checkpoint.weights)
    second_version = any(name.startswith("swinViT.layers1c.") for name in names)
    return PATCH_EMBEDDING in names and "decoder1.conv_block.conv1.conv.weight" in names and not second_version


def swin_plans(
    name: str, description: str, weights: Mapping[str, Tensor], intensities: Intensities, batch_size: int = 2
) -> dict:
    """Return plans of 1.5 mm voxels, patches of 96^3 voxels and MONAI's axis order.

    Args:
        name: name of the plans.
        description: what the weights expect.
        weights: under MONAI's names.
        intensities: how the image is scaled.
        batch_size: patches a step.
    """
    return make_plans(
        name,
        description,
        legacy_swin_unetr(weights),
        NetworkInput(
            spacing=_SPACING,
            patch=_PATCH,
            intensities=[intensities],
            axes="xyz",
        ),
        batch_size=batch_size,
    )


def self_supervised_encoder(
    name: str, weights: Mapping[str, Tensor], dropped: Mapping[str, str], unknown: str
) -> Translation:
    """Return the translation of a file that holds a self-supervised Swin encoder and nothing else of a Swin UNETR.

    Args:
        name: name of the plans.
        weights: under MONAI's names.
        dropped: what of the file is left out -> why.
        unknown: what of its training had to be assumed.
    """
    description = "Swin encoder, self-supervised: 96^3 patches, HU -1000 to 1000 scaled to 0 to 1, RAS, axes x, y, z."
    random = "Only the Swin encoder is in the file: convolutions on the skips, decoder and head are random."
    plans = swin_plans(name, description, weights, FULL_WINDOW)
    notes = (random, LEGACY_NOTE, unknown)
    return Translation(dict(weights), dict(dropped), plans, holds=ENCODER_ONLY, notes=notes)
