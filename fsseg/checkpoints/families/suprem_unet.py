"""U-Net of SuPreM and of the CLIP-Driven Universal Model: one architecture, one container, the same names."""

from fsseg.checkpoints.architectures import genesis_unet
from fsseg.checkpoints.class_lists import UNIVERSAL_32, UNIVERSAL_COLLECTIONS
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, split_off
from fsseg.checkpoints.plans import ABDOMEN_WINDOW, NetworkInput, make_plans
from fsseg.checkpoints.published import Trait

FIRST_CONVOLUTION = "down_tr64.ops.0.conv1.weight"
CLIP_HEAD = r"(organ_embedding$|precls_conv\.|GAP\.|controller\.|text_to_vision\.)"
CLIP_HEAD_REASON = "head that CLIP embeddings steer: only the backbone is imported"
CLIP_TRAITS = (
    Trait(("organ_embedding",), 0, "structures in its embedding", len(UNIVERSAL_32)),
    Trait(("controller.weight",), 0, "parameters in its dynamic head", 153),  # three 1x1x1 layers of 8, 8 and 1 outputs
)
GENESIS_WIDTH = Trait((FIRST_CONVOLUTION,), 0, "filters in its first convolution", width="genesis_unet")
RUNNING_STATISTICS = r".*\.bn1\.(running_mean|running_var|num_batches_tracked)$"
RUNNING_STATISTICS_REASON = "stored, never read: these norms take the statistics of the batch at hand"


def _recognises(checkpoint: Checkpoint) -> bool:
    heads = ("out_tr.final_conv.weight", "heads.0.weight")  # of Models Genesis, and of fsseg's own runs
    return checkpoint.has(FIRST_CONVOLUTION) and not any(checkpoint.has(head) for head in heads)


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(FIRST_CONVOLUTION, 1, "The U-Net of SuPreM and CLIP-Driven")
    reasons = {CLIP_HEAD: CLIP_HEAD_REASON, RUNNING_STATISTICS: RUNNING_STATISTICS_REASON}
    weights, dropped = split_off(checkpoint.weights, reasons)
    plans = make_plans(
        "suprem_unet",
        "U-Net of SuPreM or CLIP-Driven: 1.5 mm, 96^3 patches, HU -175 to 250 scaled to 0 to 1, RAS, axes x, y, z.",
        genesis_unet(weights),
        NetworkInput(
            spacing=(1.5, 1.5, 1.5),
            patch=(96, 96, 96),
            intensities=[ABDOMEN_WINDOW],
            axes="xyz",
        ),
        batch_size=8,
    )
    notes = ("Batch norms use the statistics of the batch in prediction, too, as they did in training.",)
    return Translation(weights, dropped, plans, notes=notes)


FAMILY = Family(
    title="U-Net of SuPreM (2,100 CTs) or of the CLIP-Driven Universal Model",
    recognises=_recognises,
    translate=_translate,
    reference="Li et al., ICLR 2024 (SuPreM); Liu et al., ICCV 2023 (CLIP-Driven Universal Model)",
    supervised_on=UNIVERSAL_COLLECTIONS,
    traits=(GENESIS_WIDTH, *CLIP_TRAITS),
    network=ShippedNetwork("genesis_unet"),
)
