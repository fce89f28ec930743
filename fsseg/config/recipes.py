"""The recipe of an adaptation: learning rates per method family, schedule and stop rule; no validation set."""

from pydantic import Field

from fsseg.config.base import StrictModel


class Recipe(StrictModel):
    """How an adaptation is trained; the same for every structure.

    Attributes:
        learning_rates: AdamW rate per method family, of what the method trains itself.
        decoder_learning_rate: rate of a decoder that is tuned besides the method.
        head_learning_rate: rate of the segmentation head; high, because the bias of a rare novel structure starts far
            from zero and its weights near it.
        weight_decay: of AdamW.
        batch_size: crops a step; None takes the plans'.
        foreground_probability: share of crops drawn for an annotated structure.
        max_steps: cap on the steps, decay included.
        plateau_window: steps that the plateau rule averages.
        plateau_patience: steps in which the averaged loss must fall.
        plateau_improvement: relative fall that counts.
    """

    learning_rates: dict[str, float] = Field(
        default={"whole_network": 1e-3, "scratch": 1e-3, "decoder": 2e-3, "black_box": 1e-3, "low_rank": 3e-3}
    )
    decoder_learning_rate: float = Field(default=2e-3, gt=0)
    head_learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: int | None = Field(default=None, ge=1)
    foreground_probability: float = Field(default=0.67, ge=0, le=1)
    max_steps: int = Field(default=2000, ge=1)
    plateau_window: int = Field(default=100, ge=1)
    plateau_patience: int = Field(default=100, ge=1)
    plateau_improvement: float = Field(default=0.05, gt=0, lt=1)
