"""swin_unetr.base_5000ep_f48_lr2e-4_pretrained.pt: called pretrained, and in truth supervised on BTCV."""

from fsseg.checkpoints.class_lists import BTCV_13
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation
from fsseg.checkpoints.plans import ABDOMEN_WINDOW
from fsseg.checkpoints.swin import LEGACY_NOTE, PATCH_EMBEDDING, SWIN_WIDTH, is_swin_unetr, monai_names, swin_plans

_HEAD = "out.conv.conv."
_ROWS = 1 + len(BTCV_13)  # a softmax over background and the organs
_LEAKAGE_NOTE = (
    "SUPERVISED ON BTCV: this file is used as self-supervised by CLIP-Driven, SuPreM and FSEFT, but it was fine-tuned"
    " with the labels of BTCV. Results on BTCV, and on its 13 organs, are no evidence of self-supervised transfer."
)
_ROWS_NOTE = (
    f"Recognised by the {_ROWS} rows of its head, which are taken for background and the organs of BTCV in their order."
    " In a Swin UNETR of your own with as many classes they would mean something else:"
    " --family monai_swinunetr imports it as yours."
)


def _recognises(checkpoint: Checkpoint) -> bool:
    head = checkpoint.weights.get(_HEAD + "weight")
    return is_swin_unetr(checkpoint) and head is not None and head.shape[0] == _ROWS


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(PATCH_EMBEDDING, 1, "The Swin UNETR for BTCV")
    weights = {name.replace(_HEAD, "heads.0."): tensor for name, tensor in monai_names(checkpoint.weights).items()}
    description = (
        "Swin UNETR supervised on BTCV: 1.5 mm, 96^3 patches, HU -175 to 250 scaled to 0 to 1, RAS, axes x, y, z."
    )
    return Translation(
        weights,
        {},
        swin_plans("swin_btcv", description, weights, ABDOMEN_WINDOW),
        labels={"labels": {"background": 0, **{name: row + 1 for row, name in enumerate(BTCV_13)}}},
        notes=(_LEAKAGE_NOTE, _ROWS_NOTE, LEGACY_NOTE, "1.5 mm is the spacing at which SuPreM and FSEFT used it."),
    )


FAMILY = Family(
    title="Swin UNETR base_5000ep, supervised on BTCV",
    recognises=_recognises,
    translate=_translate,
    reference="Tang et al., CVPR 2022 (Swin UNETR)",
    supervised_on=("BTCV",),
    traits=(SWIN_WIDTH,),
    alike="monai_swinunetr",
    network=ShippedNetwork("swinunetr_fseft", batch_size=2),
)
