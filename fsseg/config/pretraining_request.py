"""What to pretrain on what."""

from pathlib import Path

from fsseg.config.base import StrictModel
from fsseg.config.pretraining import PretrainSettings


class PretrainRequest(StrictModel):
    """What to pretrain on what, wherever it is written.

    Attributes:
        dataset: number or name of a preprocessed dataset.
        plans: name of its plans.
        settings: steps, optimiser, sampling, seed.
        recipe: whose settings these are, to say where plans differ from what it was published with.
        fold: 0 to 4 hold out a share of every source for validation, other cases each; "all" trains on everything.
        checkpoint: model folder whose weights the training starts from; None for random ones.
    """

    dataset: str
    plans: str
    settings: PretrainSettings
    recipe: str = "default"
    fold: str = "0"
    checkpoint: Path | None = None
