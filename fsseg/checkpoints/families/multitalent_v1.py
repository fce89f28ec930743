"""MultiTalent v1: nnU-Net v1's plain U-Net with 47 regions, mapped exactly onto nnU-Net v2's."""

from fsseg.checkpoints.architectures import plain_unet
from fsseg.checkpoints.class_lists import MULTITALENT_47, MULTITALENT_INSIDE
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, one_structure_a_row
from fsseg.checkpoints.nnunet_v1 import FIRST_CONVOLUTION, is_generic_unet, plans_from_v1, renamed, side_plans
from fsseg.checkpoints.plans import Intensities, NetworkInput, make_plans
from fsseg.checkpoints.published import Trait

_NAME = "multitalent_v1"
_DESCRIPTION = "U-Net of MultiTalent v1: 1.5 x 1 x 1 mm (z, y, x), 96 x 192 x 192 patches, nnU-Net's CT normalisation."
_INTENSITIES = Intensities(mean=63.44, std=175.48, low=-927.0, high=275.0)
_NOTES = (
    "Rows are regions of single datasets (btcv__liver and msd03_liver__liver are two rows); a dataset that should start"
    " from one must name its structure alike, as `fsseg assemble --channels per_dataset` does.",
    "The images were read in the orientation they were stored in; here they are read in RAS. Check rows with a side.",
    "Heads and transposed convolutions have no bias in the file: their biases are zero.",
)


def _recognises(checkpoint: Checkpoint) -> bool:
    weights = checkpoint.weights
    return is_generic_unet(weights) and weights["seg_outputs.0.weight"].shape[0] == len(MULTITALENT_47)


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(FIRST_CONVOLUTION, 1, "The U-Net of MultiTalent v1")
    weights = renamed(checkpoint.weights)
    beside = side_plans(checkpoint.path)
    if beside is None:
        plans = make_plans(
            _NAME,
            _DESCRIPTION,
            plain_unet(weights),
            NetworkInput(
                spacing=(1.5, 1.0, 1.0),
                patch=(96, 192, 192),
                intensities=[_INTENSITIES],
                axes="zyx",
            ),
            batch_size=4,
        )
        source = "Plans as published, because no plans lie beside the file."
    else:
        plans = plans_from_v1(_NAME, _DESCRIPTION, weights, beside)
        source = f"Plans from {beside.file.name} beside the file."
    return Translation(
        weights,
        {},
        plans,
        inputs=() if beside is None else (beside.file,),
        labels=one_structure_a_row(MULTITALENT_47, MULTITALENT_INSIDE),
        notes=(*_NOTES, source, *(() if beside is None else beside.notes())),
    )


FAMILY = Family(
    title="U-Net of MultiTalent v1 (13 CT collections, 47 regions)",
    recognises=_recognises,
    translate=_translate,
    reference="Ulrich et al., MICCAI 2023 (MultiTalent)",
    licence="unknown (the code is Apache-2.0)",
    supervised_on=("MSD", "BTCV", "StructSeg", "SegTHOR", "NIH Pancreas", "KiTS"),
    traits=(Trait((FIRST_CONVOLUTION,), 0, "filters in its first convolution", width="multitalent_unet"),),
    network=ShippedNetwork("multitalent_unet"),
)
