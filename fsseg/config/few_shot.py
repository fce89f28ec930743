"""Settings of an adaptation that travel inside the plans, under the key "fsseg", to the nnU-Net trainer."""

from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.base import validated
from fsseg.config.errors import UsageError
from fsseg.config.pretraining import PLANS_KEY, own_block

ADAPT_KEY = "adapt"


class FewShotSettings(AdaptationSettings):
    """What the trainer needs besides nnU-Net's plans.

    Support cases are drawn from the training cases of the fold; all of these are taken where they are fewer.

    Attributes:
        checkpoint: model folder of the base.
        base_sha256: hash of its weights and of what in its plans decides what its network computes.
        pool: cases that folds are made of; None takes all but the test cases.
        test: cases that are in no fold, as neither are others of the same image.
    """

    checkpoint: Path
    base_sha256: str
    pool: tuple[str, ...] | None = Field(default=None, min_length=1)
    test: tuple[str, ...] = ()


def few_shot_settings(plans: dict[str, Any]) -> FewShotSettings:
    """Read the settings out of plans; raise `UsageError` for plans that have none."""
    block = own_block(plans, ADAPT_KEY)
    if block is None:
        raise UsageError(
            f"The plans {plans.get('plans_name')!r} say nothing about an adaptation.\n"
            "  Make plans with `fsseg nnunet plans --checkpoint RUN --dataset ID --method NAME --shots K`."
        )
    return validated(FewShotSettings, block, f'the "{PLANS_KEY}" key of the plans')
