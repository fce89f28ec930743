"""model_swinvit.pt: the Swin encoder of Swin UNETR's self-supervised pretraining."""

from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, split_off
from fsseg.checkpoints.published import Trait
from fsseg.checkpoints.swin import PATCH_EMBEDDING, SWIN_WIDTH, monai_names, self_supervised_encoder

_ENCODER = ("patch_embed.", "layers1.", "layers2.", "layers3.", "layers4.")
_REASONS = {
    r"(swinViT\.)?norm\.": "norm behind the encoder, which a Swin UNETR does not have",
    r"(rotation|contrastive)": "pretext head",
    r"conv\.": "decoder that restores the image",
}


def _recognises(checkpoint: Checkpoint) -> bool:
    bare = checkpoint.has("patch_embed.proj.weight") and checkpoint.has_prefix("layers1.0.blocks.0.")
    whole = checkpoint.has(PATCH_EMBEDDING) and checkpoint.has_prefix("rotation")
    return (bare or whole) and not checkpoint.has_prefix("decoder1.")


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    kept, dropped = split_off(monai_names(checkpoint.weights), _REASONS)
    weights = {("swinViT." if name.startswith(_ENCODER) else "") + name: tensor for name, tensor in kept.items()}
    first = "patch_embed.proj.weight"
    checkpoint.require_input_channels(first if checkpoint.has(first) else PATCH_EMBEDDING, 1, "Swin UNETR")
    unknown = "The spacing of its training is not known here; the plans say 1.5 mm, at which FSEFT used it."
    return self_supervised_encoder("swin_ssl", weights, dropped, unknown)


FAMILY = Family(
    title="Swin encoder of Swin UNETR (5,050 CTs, self-supervised)",
    recognises=_recognises,
    translate=_translate,
    reference="Tang et al., CVPR 2022 (Swin UNETR)",
    supervised_on=(),
    traits=(Trait((*SWIN_WIDTH.tensors, "patch_embed.proj.weight"), 0, SWIN_WIDTH.what, width="swin_unetr"),),
    network=ShippedNetwork("swinunetr_fseft", batch_size=2),
)
