"""nnssl, OpenMind and nnFoundation: residual encoder U-Nets, of which stem and encoder are taken."""

import re
from typing import Any

from torch import Tensor

from fsseg.checkpoints.architectures import residual_encoder_l, unlike_residual_encoder_l
from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import ANY_MODALITY, ENCODER_ONLY, Asked, Family, Translation
from fsseg.checkpoints.plans import NetworkInput, make_plans
from fsseg.config.errors import FssegError, UsageError
from fsseg.nnunet.contents import ConfigurationContent, PlansContent

_PLAN = "nnssl_adaptation_plan"
_SPARK = "spark_weights"
_PLACES = {"key_to_stem": "encoder.stem", "key_to_encoder": "encoder.stages"}
_NOTES = (
    "Stem and encoder come from the file, as in nnssl and nnU-Net's own loading; decoder and head are random.",
    "Each image is z-scored: the network was not trained on a CT window.",
)
_SPARK_NOTE = (
    "Trained by SparK, which leaves two copies of every layer in the file: the one that ran is taken, not the one that"
    " stayed at its initialisation."
)
# nnU-Net registers a layer as conv or norm and again in all_modules, which is what it runs.
_REGISTERED = re.compile(r"\.(conv|norm)\.(weight|bias)$")
_RUN = {"conv": 0, "norm": 1}


def _recognises(checkpoint: Checkpoint) -> bool:
    return _PLAN in checkpoint.rest or _SPARK in checkpoint.rest


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
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
    spark = _is_spark(checkpoint)
    named = _renamed(_that_ran(checkpoint.weights) if spark else checkpoint.weights, places)
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
        architecture=None if unlike_residual_encoder_l(named) else residual_encoder_l(named),
        notes=(*_NOTES, _SPARK_NOTE) if spark else _NOTES,
    )


def _plans(plan: dict[str, Any], weights: dict[str, Tensor], channels: int) -> tuple[PlansContent | None, str]:
    different = unlike_residual_encoder_l(weights)
    if different:
        named = plan.get("architecture_plans", {}).get("arch_class_name")
        return None, different + (f" The file calls it {named}." if named else "")
    configurations: dict[str, Any] = plan.get("pretrain_plan", {}).get("configurations", {})
    name = next(iter(configurations), "")  # there is one, named after its spacing; nnU-Net, too, takes the first
    configuration: ConfigurationContent = configurations.get(name, {})
    patch = plan.get("recommended_downstream_patchsize") or configuration.get("patch_size")
    spacing = configuration.get("spacing")
    if not patch or not spacing:
        style = f" (configuration {name!r})" if name else ""
        return None, f"It does not say at which spacing it was trained{style}; images may not have been resampled."
    plans = make_plans(
        "nnssl",
        "Residual encoder U-Net of nnssl, self-supervised; each image z-scored.",
        residual_encoder_l(weights),
        NetworkInput(
            spacing=[float(value) for value in spacing],
            patch=[int(value) for value in patch],
            intensities=[None] * channels,
            axes="zyx",
        ),
    )
    return plans, ""


def _is_spark(checkpoint: Checkpoint) -> bool:
    """Return whether SparK trained a file, of which a release may have left out its own weights."""
    return _SPARK in checkpoint.rest or "Spark" in str(checkpoint.rest.get("trainer_name"))


def _that_ran(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with the copy that ran under both names of a layer.

    SparK puts layers of its own in place of nnU-Net's, once for each name, so that the two are no longer one.
    """
    return {
        name: weights.get(_REGISTERED.sub(lambda match: f".all_modules.{_RUN[match[1]]}.{match[2]}", name), tensor)
        for name, tensor in weights.items()
    }


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
