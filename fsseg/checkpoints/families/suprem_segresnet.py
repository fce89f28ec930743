"""SegResNet of SuPreM: a plain head of 32 sigmoid rows, in the class order of the CLIP-Driven Universal Model."""

from fsseg.checkpoints.architectures import seg_resnet
from fsseg.checkpoints.class_lists import UNIVERSAL_32, UNIVERSAL_COLLECTIONS, UNIVERSAL_INSIDE
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import NO_HEAD, Family, Translation, one_structure_a_row, split_off
from fsseg.checkpoints.plans import ABDOMEN_WINDOW, make_plans

_FIRST_CONVOLUTION = "convInit.conv.weight"
_HEAD = "conv_final.2.conv."


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.has(_FIRST_CONVOLUTION, _HEAD + "weight") and checkpoint.has_prefix("down_layers.")


def _translate(checkpoint: Checkpoint, stem: str | None) -> Translation:
    checkpoint.require_input_channels(_FIRST_CONVOLUTION, 1, "The SegResNet of SuPreM")
    rows = checkpoint.weights[_HEAD + "weight"].shape[0]
    named = rows == len(UNIVERSAL_32)
    reasons = {} if named else {_HEAD.replace(".", r"\."): f"head of {rows} rows, whose structures are not known"}
    weights, dropped = split_off(checkpoint.weights, reasons)
    weights = {name.replace(_HEAD, "heads.0."): tensor for name, tensor in weights.items()}
    plans = make_plans(
        "suprem_segresnet",
        "SegResNet of SuPreM: 1.5 mm, 96^3 patches, HU -175 to 250 scaled to 0 to 1, RAS, axes x, y, z.",
        seg_resnet(weights),
        spacing=(1.5, 1.5, 1.5),
        patch=(96, 96, 96),
        intensities=[ABDOMEN_WINDOW],
        axes="xyz",
        batch_size=16,
    )
    labels = one_structure_a_row(UNIVERSAL_32, UNIVERSAL_INSIDE) if named else NO_HEAD
    return Translation(weights, dropped, plans, labels=labels)


FAMILY = Family(
    title="SegResNet of SuPreM (2,100 CTs, 32 structures)",
    recognises=_recognises,
    translate=_translate,
    reference="Li et al., ICLR 2024 (SuPreM)",
    supervised_on=UNIVERSAL_COLLECTIONS,
)
