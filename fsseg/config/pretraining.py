"""Settings of a pretraining that travel inside the plans, under the key "fsseg", to the nnU-Net trainer."""

from typing import Any, Literal

from pydantic import Field

from fsseg.config.base import StrictModel, validated

PLANS_KEY = "fsseg"


class PretrainSettings(StrictModel):
    """What the trainer needs besides nnU-Net's plans.

    Attributes:
        steps: optimisation steps in all.
        steps_per_epoch: steps between two validations and checkpoints.
        validation_crops: validation crops an epoch.
        seed: decides initialisation, sampling and augmentation.
        optimizer: "sgd" is nnU-Net's and MultiTalent's (Nesterov momentum 0.99); "adamw" reaches more in few steps.
        learning_rate: initial rate; decays with exponent 0.9 to zero.
        weight_decay: of either optimizer.
        foreground_probability: share of crops drawn for an annotated structure.
        validation_share: share of every source's cases that is held out for validation (at least one case of a source
            with five or more).
        workers: processes that prepare crops; 0 prepares them in the training process.
    """

    steps: int = Field(ge=1)
    steps_per_epoch: int = Field(default=250, ge=1)
    validation_crops: int = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=3e-5, ge=0)
    foreground_probability: float = Field(default=0.67, ge=0, le=1)
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    workers: int = Field(default=0, ge=0)


def settings_of_plans(plans: dict[str, Any]) -> PretrainSettings:
    """Read the settings out of plans; the defaults are MultiTalent's length (1000 epochs of 250 steps)."""
    block = plans.get(PLANS_KEY, {}).get("pretrain", {})
    return validated(PretrainSettings, {"steps": 250_000, **block}, f'the "{PLANS_KEY}" key of the plans')
