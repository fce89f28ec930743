"""SegResNet of SuPreM: a plain head of 32 sigmoid rows, in the class order of the CLIP-Driven Universal Model."""

from fsseg.checkpoints.architectures import seg_resnet
from fsseg.checkpoints.class_lists import UNIVERSAL_32, UNIVERSAL_COLLECTIONS, UNIVERSAL_INSIDE
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, one_structure_a_row
from fsseg.checkpoints.plans import ABDOMEN_WINDOW, NetworkInput, make_plans
from fsseg.checkpoints.published import Trait

_FIRST_CONVOLUTION = "convInit.conv.weight"
_HEAD = "conv_final.2.conv."


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.has(_FIRST_CONVOLUTION, _HEAD + "weight") and checkpoint.has_prefix("down_layers.")


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(_FIRST_CONVOLUTION, 1, "The SegResNet of SuPreM")
    weights = {name.replace(_HEAD, "heads.0."): tensor for name, tensor in checkpoint.weights.items()}
    plans = make_plans(
        "suprem_segresnet",
        "SegResNet of SuPreM: 1.5 mm, 96^3 patches, HU -175 to 250 scaled to 0 to 1, RAS, axes x, y, z.",
        seg_resnet(weights),
        NetworkInput(
            spacing=(1.5, 1.5, 1.5),
            patch=(96, 96, 96),
            intensities=[ABDOMEN_WINDOW],
            axes="xyz",
        ),
        batch_size=16,
    )
    return Translation(weights, {}, plans, labels=one_structure_a_row(UNIVERSAL_32, UNIVERSAL_INSIDE))


FAMILY = Family(
    title="SegResNet of SuPreM (2,100 CTs, 32 structures)",
    recognises=_recognises,
    translate=_translate,
    reference="Li et al., ICLR 2024 (SuPreM)",
    supervised_on=UNIVERSAL_COLLECTIONS,
    traits=(
        Trait((_FIRST_CONVOLUTION,), 0, "filters in its first convolution", width="seg_resnet"),
        Trait((_HEAD + "weight",), 0, "rows in its head", len(UNIVERSAL_32)),
    ),
    alike="monai_segresnet",
    network=ShippedNetwork("seg_resnet"),
)
