"""FSEFT: Swin UNETR with a plain head of 29 sigmoid rows."""

from fsseg.checkpoints.class_lists import FSEFT_29
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, one_structure_a_row
from fsseg.checkpoints.plans import ABDOMEN_WINDOW
from fsseg.checkpoints.published import Trait
from fsseg.checkpoints.swin import LEGACY_NOTE, PATCH_EMBEDDING, SWIN_WIDTH, is_swin_unetr, monai_names, swin_plans

# The project's own loader accepts its head under MONAI's name, too.
_HEADS = ("classifier.", "out.conv.conv.")
_ROWS_NOTE = (
    f"Recognised by the {len(FSEFT_29)} rows of its head. In a Swin UNETR of your own with as many classes they would"
    " mean something else: --family monai_swinunetr imports it as yours."
)


def _head(checkpoint: Checkpoint) -> str | None:
    """Return how the names of the head start; under MONAI's name only a head of FSEFT's 29 rows is FSEFT's."""
    own, monai = _HEADS
    other = checkpoint.weights.get(monai + "weight")
    if checkpoint.has(own + "weight"):
        return own
    return monai if other is not None and other.shape[0] == len(FSEFT_29) else None


def _recognises(checkpoint: Checkpoint) -> bool:
    return is_swin_unetr(checkpoint) and _head(checkpoint) is not None


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(PATCH_EMBEDDING, 1, "The Swin UNETR of FSEFT")
    head = _head(checkpoint) or _HEADS[0]
    weights = {name.replace(head, "heads.0."): tensor for name, tensor in monai_names(checkpoint.weights).items()}
    description = "Swin UNETR of FSEFT: 1.5 mm, 96^3 patches, HU -175 to 250 scaled to 0 to 1, RAS, axes x, y, z."
    return Translation(
        weights,
        {},
        swin_plans("fseft", description, weights, ABDOMEN_WINDOW, batch_size=6),
        labels=one_structure_a_row(FSEFT_29),
        notes=(LEGACY_NOTE,) if head == _HEADS[0] else (_ROWS_NOTE, LEGACY_NOTE),
    )


FAMILY = Family(
    title="Swin UNETR of FSEFT (9 CT collections, 29 structures)",
    recognises=_recognises,
    translate=_translate,
    reference="Silva-Rodriguez et al., Medical Image Analysis 2025 (FSEFT)",
    supervised_on=("BTCV", "CHAOS", "LiTS", "KiTS", "AbdomenCT-1K", "AMOS", "MSD", "CT-ORG", "AbdomenCT-12organ"),
    traits=(SWIN_WIDTH, Trait(tuple(head + "weight" for head in _HEADS), 0, "rows in its head", len(FSEFT_29))),
    alike="monai_swinunetr",
    network=ShippedNetwork("swinunetr_fseft"),
)
