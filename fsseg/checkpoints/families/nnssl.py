"""nnssl, OpenMind and nnFoundation: residual encoder U-Nets, of which stem and encoder are taken."""

from typing import Any

from torch import Tensor

from fsseg.checkpoints.architectures import residual_encoder_l
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import ANY_MODALITY, ENCODER_ONLY, Family, Translation
from fsseg.checkpoints.plans import make_plans
from fsseg.config.errors import FssegError, UsageError

_PLAN = "nnssl_adaptation_plan"
_PLACES = {"key_to_stem": "encoder.stem", "key_to_encoder": "encoder.stages"}
_NOTES = (
    "Stem and encoder come from the file, as in nnssl and nnU-Net's own loading; decoder and head are random.",
    "Each image is z-scored: the network was not trained on a CT window.",
)


def _recognises(checkpoint: Checkpoint) -> bool:
    return _PLAN in checkpoint.rest or "spark_weights" in checkpoint.rest


def _translate(checkpoint: Checkpoint, stem: str | None) -> Translation:
    plan = checkpoint.rest.get(_PLAN) or {}  # one trainer of nnssl saves none
    if not isinstance(plan, dict):
        raise FssegError(f"{checkpoint.path} is damaged: its {_PLAN} is no mapping.")
    places = {place: str(plan.get(key, place)) for key, place in _PLACES.items()}
    stem_weight = f"{places['encoder.stem']}.convs.0.conv.weight"
    if not checkpoint.has(stem_weight):
        raise UsageError(
            f"{checkpoint.path} holds no convolutional stem {stem_weight}, so its network cannot be built here.\n"
            f"  in the file: {checkpoint.description()}\n"
            "  allowed: residual encoder U-Nets (ResEncL)"
        )
    named = _renamed(checkpoint.weights, places)
    weights = {name: tensor for name, tensor in named.items() if name.startswith(tuple(_PLACES.values()))}
    dropped = {name: "only stem and encoder are taken" for name in checkpoint.weights if not _inside(name, places)}
    channels = checkpoint.weights[stem_weight].shape[1]
    try:
        plans, missing = _plans(plan, named, channels)
    except (AttributeError, TypeError, ValueError) as error:
        raise FssegError(f"{checkpoint.path} is damaged: its {_PLAN} cannot be read ({error}).") from None
    return Translation(
        weights,
        dropped,
        plans,
        channel_names=(ANY_MODALITY,) * channels,
        holds=ENCODER_ONLY,
        plans_missing=missing,
        notes=_NOTES,
    )


def _plans(plan: dict[str, Any], weights: dict[str, Tensor], channels: int) -> tuple[dict[str, Any] | None, str]:
    configurations: dict[str, Any] = plan.get("pretrain_plan", {}).get("configurations", {})
    name = next(iter(configurations), "")  # there is one, named after its spacing; nnU-Net, too, takes the first
    configuration: dict[str, Any] = configurations.get(name, {})
    patch = plan.get("recommended_downstream_patchsize") or configuration.get("patch_size")
    spacing = configuration.get("spacing")
    if not patch or not spacing:
        style = f" (configuration {name!r})" if name else ""
        return None, f"It does not say at which spacing it was trained{style}; images may not have been resampled."
    plans = make_plans(
        "nnssl",
        "Residual encoder U-Net of nnssl, self-supervised; each image z-scored.",
        residual_encoder_l(weights),
        spacing=[float(value) for value in spacing],
        patch=[int(value) for value in patch],
        intensities=[None] * channels,
        axes="zyx",
    )
    return plans, ""


def _renamed(weights: dict[str, Tensor], places: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        place = _inside(name, places)
        renamed[place + name.removeprefix(places[place]) if place else name] = tensor
    return renamed


def _inside(name: str, places: dict[str, str]) -> str:
    """Return which part of a network a tensor belongs to: "encoder.stem", "encoder.stages", or neither."""
    return next((place for place, key in places.items() if name.startswith(key + ".")), "")


FAMILY = Family(
    title="residual encoder U-Net of nnssl / OpenMind / nnFoundation (self-supervised)",
    recognises=_recognises,
    translate=_translate,
    reference="Wald et al., ICCV 2025 (OpenMind); arXiv 2609.26924 (nnFoundation)",
    licence="unknown (nnFoundationCNN is CC-BY-SA-4.0)",
    supervised_on=(),
)
