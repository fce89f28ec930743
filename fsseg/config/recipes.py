"""Recipes of an adaptation: loss, crops, learning rates, schedule and stop rule; no validation set."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from fsseg.config.base import Mirroring, Precision, StrictModel
from fsseg.config.errors import UsageError

Activation = Literal["sigmoid", "softmax"]
DecoderChoice = Literal["frozen", "tuned"]
HeadStart = Literal["base", "new"]  # of the head rows of structures that the base knows; others are new anyway
# What a method trains itself; decides its learning rate.
Family = Literal["whole_network", "scratch", "decoder", "head", "black_box", "selective", "low_rank", "adapter"]
Rate = Annotated[float, Field(gt=0)]
LEAST_TILE_STEP = 0.1  # as a share of the patch: a prediction takes 1 / step³ as long as without overlap


class Rates(NamedTuple):
    """AdamW rates of one adaptation: of what the method trains itself, of the decoder and of the head."""

    method: float
    decoder: float
    head: float


class Recipe(StrictModel):
    """How an adaptation is trained; the same for every structure."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    activation: Activation = "sigmoid"
    """With "sigmoid" the head predicts every structure on its own; with "softmax" it gives every voxel one class,
    background among them, for structures that exclude each other and are annotated in every support case.
    """
    loss: Literal["bce_dice", "dice"] = "bce_dice"
    """The loss: "bce_dice" is masked cross-entropy (binary, or of a softmax) plus Dice over the batch; "dice" is soft
    Dice per patch.
    """
    learning_rates: dict[Family, Rate] = Field(
        default={
            "whole_network": 1e-3,
            "scratch": 1e-3,
            "decoder": 2e-3,
            "head": 1e-2,
            "black_box": 1e-3,
            "selective": 3e-2,
            "low_rank": 3e-3,
            "adapter": 1e-2,
        }
    )
    """AdamW rate per method family, of what the method trains itself: the "decoder" of decoder tuning, the "head" of a
    linear probe. Chosen on phantoms, except of "selective" and "adapter": those are three times as high, because on
    pool cases of real CT they did better so (400 steps, 0.3 to 10 times, one seed).
    """
    decoder_learning_rate: float = Field(default=2e-3, gt=0)
    """Rate of a decoder that is tuned besides the method."""
    head_learning_rate: float = Field(default=1e-2, gt=0)
    """Rate of a head that is trained besides the method; high, because the bias of a rare novel structure starts far
    from zero and its weights near it.
    """
    new_head_rows: Literal["prior", "random"] = "prior"
    """Where head rows of novel structures start. "prior": small weights, and as bias the logit of the structure's
    frequency, which a high `head_learning_rate` moves; "random": as torch starts a convolution. The background of a
    new softmax starts at zero, or "random": beside rows of the base Xavier-uniform with a bias of zero.
    """
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    batch_size: int | None = Field(default=None, ge=1, le=1024)
    """Crops a step; None takes the plans'."""
    foreground_probability: float = Field(default=0.67, ge=0, le=1)
    """Share of crops drawn for an annotated structure."""
    crop_jitter: float = Field(default=0.25, ge=0, le=0.5)
    """How far the voxel that a crop was drawn for may lie from its centre, as a share of the patch."""
    crop_centres: Literal["structures", "voxels"] = "structures"
    """Which voxels crops are drawn for. "structures": every structure that a case shows equally often, and other crops
    anywhere; "voxels": structures by their size, and other crops for background voxels of the body, as MONAI does.
    """
    cut_to_body: bool = False
    """Crops come from the box of what lies above the lower end of the intensity window, without the air around."""
    crops_per_volume: int | None = Field(default=None, ge=1)
    """So many consecutive crops come from one support case, each case having its turn; None draws the case of every
    crop.
    """
    augmentation: Literal["nnunet", "intensity_shift"] = "nnunet"
    """Augmentation of the crops: "nnunet" is nnU-Net's; "intensity_shift" shifts intensities that lie in [0, 1], as
    FSEFT does. A network that was trained without nnU-Net's has seen no flips, and its predictions are not mirrored.
    """
    mirroring: Mirroring = "auto"
    """Flips of nnU-Net's augmentation, and of predictions. "auto" has them along the axes that the base allows, where
    neither a structure of the base nor an adapted one has a side; true refuses where there can be none, and has them
    with a base of which nobody knows how it was trained; false has none.
    """
    gradient_clip_norm: float | None = Field(default=12.0, gt=0)
    """Norm to which the gradients of a step are clipped, by default nnU-Net's; null clips nothing."""
    schedule: Literal["stable", "cosine"] = "stable"
    """Course of the learning rate: "stable" is a constant rate until the plateau, then a linear decay; "cosine" decays
    from the start.
    """
    max_steps: int = Field(default=2000, ge=1)
    """Cap on the steps, decay included."""
    made_for_cases: int | None = Field(default=None, ge=1)
    """Support cases that the numbers of steps, from `max_steps` to `plateau_patience`, are meant for; with fewer, as in
    leave-one-out, they are less in proportion. None: however many cases there are.
    """
    epoch_steps: int = Field(default=1, ge=1)
    """Steps between two changes of the rate along a cosine, and between two looks at the plateau rule."""
    plateau_first: int = Field(default=0, ge=0)
    """Steps before the plateau rule is asked."""
    plateau_window: int = Field(default=200, ge=1)
    """Steps that the plateau rule averages. On real CT means over 100 steps differ by about 6 % by chance, more than
    the fall that is asked for, and trainings ended early and at random.
    """
    plateau_patience: int = Field(default=200, ge=1)
    """Steps in which the averaged loss must fall."""
    plateau_improvement: float = Field(default=0.05, gt=0, lt=1)
    """Fall of the averaged loss that counts; a smaller one is a plateau."""
    plateau_relative: bool = True
    """Whether the fall is a share of the earlier loss, and not a loss."""
    size_margin: float = Field(default=0.3, ge=0, lt=1)
    """With --transductive: relative error of a predicted size that costs nothing. The authors took 0.5 for kidneys."""
    size_weight: float = Field(default=0.1, gt=0)
    """With --transductive: weight of the size constraint."""
    size_first_epoch: int = Field(default=50, ge=1)
    """With --transductive: after which epoch, of `epoch_steps` steps, the size constraint is taken first."""
    precision: Precision = "auto"
    """Number format of a step: "auto" is mixed precision on a CUDA device and float32 on a CPU; "bfloat16" is for CPUs
    that have it, where a step takes about half the time and memory; "float32" switches mixed precision off.
    """
    checkpoint_activations: bool = False
    """Blocks, and adapters beside them, compute what they need for the backward pass a second time instead of keeping
    it; for patches that do not fit into memory.
    """
    fresh_crops: bool = False
    """Methods that read the last features only are trained on crops that never recur, with the network in the loop, as
    all others are; this takes several times as long as `feature_crops`.
    """
    feature_crops: int = Field(default=100, ge=1)
    """Crops whose features are computed once, for methods that read the last features only. On phantoms 100 do as well
    as crops that never recur; 25 do on known structures, not on novel ones.
    """
    feature_cache_gib: float = Field(default=8.0, gt=0)
    """Memory that these may take on a CUDA device, and as much again on the host; without CUDA on the host only."""
    tile_step_size: float = Field(default=0.5, ge=LEAST_TILE_STEP, le=1)
    """Step of the sliding window, as a share of the patch, with which the result predicts unless another is asked for.
    """

    def rates(self, family: Family) -> Rates:
        """Return the learning rates of an adaptation by a method of `family`.

        Raises:
            UsageError: the recipe has no rate of this family.
        """
        if family not in self.learning_rates:
            raise UsageError(
                f"recipe.learning_rates has no rate of the family {family!r}, to which the method belongs; it has"
                f" {', '.join(self.learning_rates) or 'none'}.\n"
                f"  Add it, for example --set 'recipe.learning_rates={{{family}: 0.001}}'"
            )
        own = self.learning_rates[family]
        return Rates(
            method=own,
            decoder=own if family == "decoder" else self.decoder_learning_rate,
            head=own if family == "head" else self.head_learning_rate,
        )

    def for_cases(self, cases: int) -> "Recipe":
        """Return the recipe with the numbers of steps for so many support cases."""
        if self.made_for_cases in (None, cases):
            return self
        share = cases / self.made_for_cases
        fewer = {name: max(1, round(share * getattr(self, name))) for name in _STEPS}
        first = round(share * self.plateau_first)
        return self.model_copy(update={**fewer, "plateau_first": first, "made_for_cases": cases})


# Settings that came after 0.1.0. At their default they leave a training as it was, so what was begun then is resumed.
_LATER = (
    "crop_centres",
    "cut_to_body",
    "fresh_crops",
    "gradient_clip_norm",
    "size_margin",
    "size_weight",
    "size_first_epoch",
)


def deciding_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a recipe, as plain values, decides a training: all but later settings at their default."""
    return {
        name: value
        for name, value in recipe.items()
        if name not in _LATER or value != Recipe.model_fields[name].default
    }


_STEPS = ("max_steps", "epoch_steps", "plateau_window", "plateau_patience")
