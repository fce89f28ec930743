"""A SegResNet of the user's own, as MONAI builds it; its widths and depths are read off the weights."""

from fsseg.checkpoints.architectures import own_seg_resnet
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, Translation
from fsseg.checkpoints.own_network import TAKES, own_network

_FIRST_CONVOLUTION = "convInit.conv.weight"
_HEAD = "conv_final.2.conv."
_NOTE = "Group norms of 8 groups, ReLU and trilinear upsampling are assumed, MONAI's defaults: shapes do not show them."


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.has(_FIRST_CONVOLUTION, _HEAD + "weight") and checkpoint.has_prefix("down_layers.")


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    weights = {name.replace(_HEAD, "heads.0."): tensor for name, tensor in checkpoint.weights.items()}
    channels = weights[_FIRST_CONVOLUTION].shape[1]
    block = own_seg_resnet(weights)
    return own_network(asked, weights, block, name="monai_segresnet", channels=channels, notes=(_NOTE,))


FAMILY = Family(
    title="SegResNet of your own, as MONAI builds it",
    recognises=_recognises,
    translate=_translate,
    reference="Myronenko, BrainLes 2018 (SegResNet)",
    takes=TAKES,
)
