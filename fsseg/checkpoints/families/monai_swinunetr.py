"""A Swin UNETR of the user's own, as MONAI builds it; its widths and depths are read off the weights."""

from fsseg.checkpoints.architectures import own_swin_unetr
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, Translation
from fsseg.checkpoints.own_network import TAKES, own_network
from fsseg.checkpoints.swin import PATCH_EMBEDDING, is_swin_unetr, monai_names

_HEAD = "out.conv.conv."


def _recognises(checkpoint: Checkpoint) -> bool:
    return is_swin_unetr(checkpoint) and checkpoint.has(_HEAD + "weight")


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    weights = {name.replace(_HEAD, "heads.0."): tensor for name, tensor in monai_names(checkpoint.weights).items()}
    return own_network(
        asked,
        weights,
        own_swin_unetr(weights, asked.patch_merging or "merging"),
        name="monai_swinunetr",
        channels=weights[PATCH_EMBEDDING].shape[1],
        takes=(*TAKES, "patch_merging"),
    )


FAMILY = Family(
    title="Swin UNETR of your own, as MONAI builds it",
    recognises=_recognises,
    translate=_translate,
    reference="Hatamizadeh et al., BrainLes 2021 (Swin UNETR)",
    takes=(*TAKES, "patch_merging"),
)
