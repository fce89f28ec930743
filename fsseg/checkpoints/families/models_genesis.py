"""Models Genesis, Genesis_Chest_CT.pt: a U-Net that was trained to restore distorted chest CTs."""

from fsseg.checkpoints.architectures import genesis_unet
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.families.suprem_unet import (
    FIRST_CONVOLUTION,
    GENESIS_WIDTH,
    RUNNING_STATISTICS,
    RUNNING_STATISTICS_REASON,
)
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, split_off
from fsseg.checkpoints.plans import FULL_WINDOW, NetworkInput, make_plans

_NOTES = (
    "The network was trained on chest CTs without resampling. The plans say 1.5 mm, at which SuPreM and FSEFT used it;"
    " give your own with --plans.",
    "Batch norms use the statistics of the batch in prediction, too, as they did in training.",
)


def _recognises(checkpoint: Checkpoint) -> bool:
    head = checkpoint.weights.get("out_tr.final_conv.weight")
    # It restores one image; with more rows a U-Net was fine-tuned to structures, on data that the file does not name.
    return checkpoint.has(FIRST_CONVOLUTION) and head is not None and head.shape[0] == 1


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(FIRST_CONVOLUTION, 1, "Models Genesis")
    reasons = {r"out_tr\.": "head that restores the image", RUNNING_STATISTICS: RUNNING_STATISTICS_REASON}
    weights, dropped = split_off(checkpoint.weights, reasons)
    plans = make_plans(
        "models_genesis",
        "U-Net of Models Genesis: 64 x 64 x 32 patches (x, y, z), HU -1000 to 1000 scaled to 0 to 1, axes x, y, z.",
        genesis_unet(weights),
        NetworkInput(
            spacing=(1.5, 1.5, 1.5),
            patch=(64, 64, 32),
            intensities=[FULL_WINDOW],
            axes="xyz",
        ),
        batch_size=6,
    )
    return Translation(weights, dropped, plans, notes=_NOTES)


FAMILY = Family(
    title="U-Net of Models Genesis (623 chest CTs, self-supervised)",
    recognises=_recognises,
    translate=_translate,
    reference="Zhou et al., Medical Image Analysis 2021 (Models Genesis)",
    supervised_on=(),
    traits=(GENESIS_WIDTH,),
    network=ShippedNetwork("genesis_unet", batch_size=6, patch_size=(64, 64, 32)),
)
