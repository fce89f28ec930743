"""Settings of an adaptation: the same for the command, the Python API, the plans of nnU-Net's trainer and the demo."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fsseg.config.base import Seed, StrictModel
from fsseg.config.recipes import DecoderChoice, HeadStart, Recipe

DEFAULT_SHOTS = 5


class AdaptationSettings(StrictModel):
    """How to adapt, wherever the base and the cases come from.

    Attributes:
        structures: structures of the dataset to adapt to, together in one network.
        shots: number of support cases to draw.
        method: name of the method, with its preset: "lora", "lora:fseft".
        method_options: its options.
        decoder: frozen or tuned; None takes the method's default.
        head: "base" starts the head rows of structures that the base knows from its own; "new" starts all anew, for a
            structure that only has the name in common.
        seed: decides the support draw, new weights and crops.
        recipe: learning rates, schedule, stop rule.
    """

    structures: tuple[str, ...] = Field(min_length=1)
    shots: int = Field(default=DEFAULT_SHOTS, ge=1)
    method: str
    method_options: dict[str, Any] = Field(default_factory=dict)
    decoder: DecoderChoice | None = None
    head: HeadStart = "base"
    seed: Seed = 0
    recipe: Recipe = Recipe()


class AdaptationRequest(AdaptationSettings):
    """What to adapt to what.

    Attributes:
        checkpoint: model folder of the base.
        dataset: number or name of a dataset in nnUNet_raw.
        pool, test: cases that may be drawn, and those that never are: names, or a file with one a line.
        cases: support cases by name; with these, `shots` is their number.
    """

    checkpoint: Path
    dataset: str
    pool: Path | tuple[str, ...] | None = None
    test: Path | tuple[str, ...] | None = None
    cases: tuple[str, ...] | None = Field(default=None, min_length=1)


class RunRequest(AdaptationRequest):
    """What to adapt to what, here and now.

    Attributes:
        transductive: cases whose images take part in the training without their label maps: names, or a file with one
            a line. What is predicted in them shall be as large as in the support cases.
        estimate: "loo" also runs leave-one-out over the support cases.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    transductive: Path | tuple[str, ...] | None = None
    estimate: Literal["loo"] | None = None
    device: str = "auto"
