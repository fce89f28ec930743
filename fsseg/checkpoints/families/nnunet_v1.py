"""Plain 3D U-Nets of nnU-Net v1, whose plans lie beside them: Models Genesis for nnU-Net, and one's own."""

from fsseg.checkpoints.architectures import plain_unet
from fsseg.checkpoints.class_lists import MULTITALENT_47
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import ANY_MODALITY, Asked, Family, Translation, split_off
from fsseg.checkpoints.nnunet_v1 import FIRST_CONVOLUTION, is_generic_unet, plans_from_v1, renamed, side_plans

_DESCRIPTION = "Plain U-Net of nnU-Net v1."


def _recognises(checkpoint: Checkpoint) -> bool:
    weights = checkpoint.weights
    return is_generic_unet(weights) and weights["seg_outputs.0.weight"].shape[0] != len(MULTITALENT_47)


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    weights = renamed(checkpoint.weights)
    architecture = plain_unet(weights)
    beside = side_plans(checkpoint.path)
    plans = None if beside is None else plans_from_v1("nnunet_v1", _DESCRIPTION, weights, beside)
    channels = checkpoint.weights[FIRST_CONVOLUTION].shape[1]
    schemes = [] if plans is None else plans["configurations"]["3d_fullres"]["normalization_schemes"]
    names = ["CT" if scheme == "CTNormalization" else ANY_MODALITY for scheme in schemes]
    weights, dropped = split_off(weights, {r"decoder\.seg_layers\.": "head, whose structures the file does not name"})
    return Translation(
        weights,
        dropped,
        plans,
        channel_names=tuple(names) if len(names) == channels else (ANY_MODALITY,) * channels,
        architecture=architecture,
        inputs=() if beside is None else (beside.file,),
        plans_missing=f"Neither {checkpoint.path.name}.pkl nor plans.pkl lies beside it, in which nnU-Net v1 keeps"
        " spacing, patch and intensities.",
        notes=(
            "The images were read in the orientation they were stored in; here they are read in RAS.",
            *(() if beside is None else beside.notes()),
        ),
    )


FAMILY = Family(
    title="plain 3D U-Net of nnU-Net v1",
    recognises=_recognises,
    translate=_translate,
    reference="Isensee et al., Nature Methods 2021 (nnU-Net); Zhou et al., 2021 (Models Genesis)",
)
