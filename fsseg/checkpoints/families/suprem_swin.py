"""Swin UNETR of SuPreM and of the CLIP-Driven Universal Model, with and without `backbone.` in its names."""

from fsseg.checkpoints.class_lists import UNIVERSAL_COLLECTIONS
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.families.suprem_unet import CLIP_HEAD, CLIP_HEAD_REASON, CLIP_TRAITS
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, split_off
from fsseg.checkpoints.plans import ABDOMEN_WINDOW
from fsseg.checkpoints.swin import LEGACY_NOTE, PATCH_EMBEDDING, SWIN_WIDTH, is_swin_unetr, monai_names, swin_plans


def _recognises(checkpoint: Checkpoint) -> bool:
    return is_swin_unetr(checkpoint) and checkpoint.has("controller.weight")


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    weights, dropped = split_off(monai_names(checkpoint.weights), {CLIP_HEAD: CLIP_HEAD_REASON})
    checkpoint.require_input_channels(PATCH_EMBEDDING, 1, "The Swin UNETR of SuPreM and CLIP-Driven")
    description = (
        "Swin UNETR of SuPreM or CLIP-Driven: 1.5 mm, 96^3 patches, HU -175 to 250 scaled to 0 to 1, RAS, axes x, y, z."
    )
    return Translation(
        weights, dropped, swin_plans("suprem_swin", description, weights, ABDOMEN_WINDOW), notes=(LEGACY_NOTE,)
    )


FAMILY = Family(
    title="Swin UNETR of SuPreM (2,100 CTs) or of the CLIP-Driven Universal Model",
    recognises=_recognises,
    translate=_translate,
    reference="Li et al., ICLR 2024 (SuPreM); Liu et al., ICCV 2023 (CLIP-Driven Universal Model)",
    supervised_on=UNIVERSAL_COLLECTIONS,
    traits=(SWIN_WIDTH, *CLIP_TRAITS),
    alike="monai_swinunetr",
    network=ShippedNetwork("swinunetr_fseft", batch_size=2),
)
