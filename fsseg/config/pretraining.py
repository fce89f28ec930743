"""Settings of a pretraining that travel inside the plans, under the key "fsseg", to the nnU-Net trainer."""

from typing import Any, Literal

from pydantic import Field, model_validator

from fsseg.config.base import Mirroring, Precision, Seed, StrictModel, validated
from fsseg.config.errors import UsageError, shown, unknown_name

PLANS_KEY = "fsseg"
FOLDS = 5  # of a pretraining, as nnU-Net has


class PretrainSettings(StrictModel):
    """What the trainer needs besides nnU-Net's plans.

    Attributes:
        steps: optimisation steps in all.
        steps_per_epoch: steps between two validations and checkpoints.
        validation_crops: validation crops an epoch.
        seed: decides initialisation, sampling and augmentation.
        loss: a published loss of training/losses.py. All have a sigmoid per structure but "uniseg", a softmax over
            what a case annotates and background.
        unannotated: "masked" leaves out of the loss what a case does not annotate; "background" counts it as
            background, which is wrong wherever the structure is visible: for comparisons only.
        optimizer: "sgd" is nnU-Net's and MultiTalent's (Nesterov momentum 0.99); "adamw" reaches more in few steps.
        learning_rate: the highest rate.
        schedule: "poly" decays with exponent 0.9 to zero; "cosine" along a cosine. Both change with the epoch.
        warmup: share of the epochs, at least one unless 0, in which the rate rises linearly from a tenth, before the
            decay along a cosine.
        weight_decay: of either optimizer.
        accumulate: batches whose gradients are averaged into one step.
        ema: decay of an exponential moving average of the weights, which is then what is validated and saved; None for
            the weights themselves.
        foreground_probability: share of crops drawn for an annotated structure.
        sampling: a source with n cases is drawn in proportion to sqrt(n) ("sqrt", MultiTalent), to n ("cases"), or as
            often as any other ("sources"). Sources that are parts of one collection count as one.
        augmentation: "nnunet" is nnU-Net's; "turn_and_shift" turns by quarters and shifts intensities in [0, 1], which
            is what SuPreM and FSEFT do.
        mirroring: flip the crops of nnU-Net's augmentation, and predict mirrored: "auto" where no structure has a side;
            true refuses where one has; false never.
        precision: "auto" is mixed precision on a CUDA device and float32 on a CPU; "bfloat16" is for CPUs that have it;
            "float32" switches mixed precision off.
        validation_share: share of every source's cases that a fold holds out for validation (at least one case of a
            source with five or more). With a fifth, the five folds hold out every case once.
        checkpoint_minutes: longest time between two checkpoints; one is written after every epoch, too.
        workers: processes that prepare crops, beside each training process; 0 prepares them in it. None: on a CUDA
            device as many as nnU-Net takes, on others 0.
    """

    steps: int = Field(ge=1)
    steps_per_epoch: int = Field(default=250, ge=1)
    validation_crops: int = Field(default=50, ge=1)
    seed: Seed = 0
    loss: Literal["multitalent", "suprem", "clip_driven", "fseft", "hermes", "uniseg"] = "multitalent"
    unannotated: Literal["masked", "background"] = "masked"
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["poly", "cosine"] = "poly"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=3e-5, ge=0)
    accumulate: int = Field(default=1, ge=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    foreground_probability: float = Field(default=0.67, ge=0, le=1)
    sampling: Literal["sqrt", "cases", "sources"] = "sqrt"
    augmentation: Literal["nnunet", "turn_and_shift"] = "nnunet"
    mirroring: Mirroring = "auto"
    precision: Precision = "auto"
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    workers: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _warmup_needs_the_cosine(self) -> "PretrainSettings":
        if self.warmup and self.schedule != "cosine":
            raise ValueError(f"warmup={self.warmup} goes with schedule=cosine only, got schedule={self.schedule}")
        return self


# Patch, spacing and window are those of the plans; pretraining/recipe_notes.py says which were published. With
# every recipe gradients are clipped to a norm of 12, as nnU-Net and MultiTalent do.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    # Ulrich et al., MICCAI 2023: 2,000 epochs of 250 steps, batch 4.
    "multitalent": {
        "loss": "multitalent",
        "sampling": "sqrt",
        "augmentation": "nnunet",
        "foreground_probability": 0.33,
        "optimizer": "sgd",
        "learning_rate": 1e-2,
        "schedule": "poly",
        "weight_decay": 3e-5,
    },
    # Li et al., ICLR 2024: 800 epochs, 20 of them warm-up, batch 8 (U-Net) on each of 8 devices.
    "suprem": {
        "loss": "suprem",
        "sampling": "cases",
        "augmentation": "turn_and_shift",
        "foreground_probability": 0.67,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 0.025,
        "weight_decay": 1e-5,
    },
    # Silva-Rodriguez et al., MedIA 2025: 1,000 epochs, 10 of them warm-up, 6 crops on each of 4 devices. Left out: a
    # zoom of 1.1 to 1.3 on the Decathlon sets.
    "fseft": {
        "loss": "fseft",
        "sampling": "sources",
        "augmentation": "turn_and_shift",
        "foreground_probability": 0.8,
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "schedule": "cosine",
        "warmup": 0.01,
        "weight_decay": 1e-5,
    },
}


def recipe_settings(name: str) -> dict[str, Any]:
    """Return the settings of a published pretraining, or none for "default"; raise `UsageError` for another name."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, tuple(RECIPES))
    return RECIPES[name]


def fold_settings(fold: str | None) -> dict[str, Any]:
    """Return the share that a fold asked for by its number holds out: with a fifth, five folds hold out every case."""
    return {} if fold in (None, "all") else {"validation_share": 1 / FOLDS}


def settings_of_plans(plans: dict[str, Any]) -> PretrainSettings:
    """Read the settings out of plans; the defaults are MultiTalent's length (1000 epochs of 250 steps)."""
    block = own_block(plans, "pretrain") or {}
    return validated(PretrainSettings, {"steps": 250_000, **block}, f'the "{PLANS_KEY}" key of the plans')


def own_block(plans: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what plans hold for fsseg under a name; None if nothing. Raise `UsageError` for what is no mapping."""
    own = plans.get(PLANS_KEY, {})
    block = own.get(name, {}) if isinstance(own, dict) else own
    if not isinstance(block, dict):
        raise UsageError(f'The "{PLANS_KEY}" key of the plans must hold mappings of settings, got {shown(block)}.')
    return block or None
