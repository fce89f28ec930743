"""A BasicUNet of the user's own, as MONAI builds it; its widths are read off the weights.

MONAI's other U-Nets are not read. UNet makes the classes by a transposed convolution and mixes them in the next layer,
so that it has no rows to take structures from, and its strides are not in its weights; DynUNet's neither.
"""

from fsseg.checkpoints.architectures import own_basic_unet
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, Translation
from fsseg.checkpoints.own_network import TAKES, own_network
from fsseg.config.errors import UsageError

_FIRST_CONVOLUTION = "conv_0.conv_0.conv.weight"
_HEAD = "final_conv."
_NOTE = "Leaky ReLU of slope 0.1 and instance norms are assumed, MONAI's defaults: shapes do not show them."
_OF_UNET = ("0.conv.", "1.submodule.")  # MONAI's UNet, behind "model."


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.has(_FIRST_CONVOLUTION, _HEAD + "weight") or all(map(checkpoint.has_prefix, _OF_UNET))


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    if not checkpoint.has(_FIRST_CONVOLUTION):
        raise UsageError(
            f"{checkpoint.path} is a UNet of MONAI, of which only BasicUNet can be imported.\n"
            "  UNet makes its classes by a transposed convolution, so its head has no rows that structures could be"
            " taken from, and its strides are not in its weights."
        )
    weights = {name.replace(_HEAD, "heads.0."): tensor for name, tensor in checkpoint.weights.items()}
    channels = weights[_FIRST_CONVOLUTION].shape[1]
    block = own_basic_unet(weights)
    return own_network(asked, weights, block, name="monai_unet", channels=channels, notes=(_NOTE,))


FAMILY = Family(
    title="BasicUNet of your own, as MONAI builds it",
    recognises=_recognises,
    translate=_translate,
    reference="Falk et al., Nature Methods 2019 (U-Net)",
    takes=TAKES,
)
