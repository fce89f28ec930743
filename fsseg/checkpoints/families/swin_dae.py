"""ssl_pretrained_weights.pth: the Swin encoder of disruptive autoencoders, whose names double an index."""

import re

from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, ShippedNetwork, Translation, split_off
from fsseg.checkpoints.published import Trait
from fsseg.checkpoints.swin import monai_names, self_supervised_encoder

_PATCH_EMBEDDING = "encoder.patch_embed.proj.weight"
_REASONS = {
    r"encoder\.mask_token$": "stands for masked patches in training",
    r"encoder\.norm\.": "norm behind the encoder, which a Swin UNETR does not have",
    r"(?!encoder\.)": "not part of the encoder",
}


def _recognises(checkpoint: Checkpoint) -> bool:
    return checkpoint.has(_PATCH_EMBEDDING) and checkpoint.has_prefix("encoder.layers1.0.0.blocks.0.")


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    checkpoint.require_input_channels(_PATCH_EMBEDDING, 1, "The Swin encoder of disruptive autoencoders")
    kept, dropped = split_off(monai_names(checkpoint.weights), _REASONS)
    weights = {
        re.sub(r"^encoder\.(layers\d\.0\.)0\.", r"encoder.\1", name).replace("encoder.", "swinViT.", 1): tensor
        for name, tensor in kept.items()
    }
    unknown = (
        "Spacing and HU window of its training are not known here; the plans say 1.5 mm and -1000 to 1000, as for"
        " model_swinvit.pt. Give your own with --plans."
    )
    return self_supervised_encoder("swin_dae", weights, dropped, unknown)


FAMILY = Family(
    title="Swin encoder of disruptive autoencoders (self-supervised)",
    recognises=_recognises,
    translate=_translate,
    reference="Valanarasu et al., 2023 (Disruptive Autoencoders)",
    supervised_on=(),
    traits=(Trait((_PATCH_EMBEDDING,), 0, "features in its first stage", width="swin_unetr"),),
    network=ShippedNetwork("swinunetr_fseft", batch_size=2),
)
