"""What to import, and what the user says of the file."""

from pathlib import Path
from typing import Literal

from pydantic import Field, FiniteFloat, PositiveFloat, PositiveInt

from fsseg.checkpoints.family import Asked
from fsseg.checkpoints.registry import AUTO
from fsseg.config.base import Seed, StrictModel
from fsseg.config.recipes import Activation

SAID = ("stem", "labels", "activation", "spacing", "hu", "orientation", "patch_merging")  # of `Asked`


class ImportRequest(StrictModel):
    """What to import.

    Attributes:
        file: the checkpoint.
        family: name of its family; "auto" finds it out from names and shapes.
        stem: id of a stem, for files with several.
        labels, activation, spacing, hu, orientation, patch_merging: of a network of the user's own; see `Asked`.
        plans: plans to use instead of those that the family or the file says.
        channels: image channels of the base, in order, each as NAME or NAME=OLD; None keeps the checkpoint's.
        patch_size: in voxels, in the axis order of the plans; None takes that of the plans.
        allow_partial: accept a network that is partly random, tensors of other shapes, and layers left out.
        seed: decides what does not come from the file.
    """

    file: Path
    family: str = AUTO
    stem: str | None = None
    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    activation: Activation | None = None
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    hu: tuple[FiniteFloat, FiniteFloat] | None = None
    orientation: str | None = None
    patch_merging: Literal["legacy", "merging"] | None = None
    plans: Path | None = None
    channels: tuple[str, ...] | None = Field(default=None, min_length=1)
    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    allow_partial: bool = False
    seed: Seed = 0

    def asked(self) -> Asked:
        """Return what the user says of the file."""
        return Asked(**{word: getattr(self, word) for word in SAID}, has_plans=self.plans is not None)
