"""From a start to a fitted network: the one way, for the command, the API, the trainer class and leave-one-out."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fsseg.adaptation.silent_structures import silent_notes
from fsseg.adaptation.start import Start
from fsseg.adaptation.training import train
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.training.fit import FitResult
from fsseg.training.fit_checkpoint import FitCheckpoint
from fsseg.training.plan import OnStep, unreported

_LAST_STEPS = 50  # over which the loss at the end is averaged
_OF_THIS_MACHINE = ("fit_seconds", "resumed_at")  # and not of the result, so that equal trainings give equal files


@dataclass(frozen=True)
class TrainingFacts:
    """How a training went.

    Attributes:
        steps: that were taken; none of a method that sets the head without training.
        plateau: whether the plateau of the loss ended it, rather than the cap on the steps.
        fit_seconds: wall time.
        resumed_at: for every time that it went on after a stop, the steps that were done then.
        loss: mean of the last steps; None without steps.
    """

    steps: int
    plateau: bool
    fit_seconds: float
    resumed_at: list[int]
    loss: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        return asdict(self)

    def of_result(self) -> dict[str, Any]:
        """Return those that are the same wherever and in how many parts the training ran."""
        return {name: fact for name, fact in self.as_dict().items() if name not in _OF_THIS_MACHINE}


@dataclass(frozen=True)
class FittedNetwork:
    """A network that was adapted.

    Attributes:
        start: job, network and volumes; the network is trained now.
        training: what the training did.
    """

    start: Start
    training: FitResult

    @cached_property
    def silent(self) -> list[str]:
        """What a user should know of a network that has not learned: structures that it predicts nowhere."""
        return silent_notes(self.start)

    @property
    def merges(self) -> bool:
        """Whether the result is a plain network, which stock nnU-Net runs."""
        return not self.start.job.method.not_merged_because

    @property
    def ranks(self) -> dict[str, int]:
        """Effective rank of every layer that has a low-rank update, by layer name."""
        return self.start.job.method.ranks(self.start.network.network)

    @property
    def facts(self) -> TrainingFacts:
        """How the training went."""
        last = self.training.losses[-_LAST_STEPS:]
        return TrainingFacts(
            steps=len(self.training.losses),
            plateau=self.training.plateau,
            fit_seconds=round(self.training.seconds, 2),
            resumed_at=list(self.training.resumed_at),
            loss=round(sum(last) / len(last), 5) if last else None,
        )

    def model(self) -> ModelFolder:
        """Return the model folder of the result, but for its weights, which are the base's."""
        return self.start.job.model(self.start.cases, self.start.left_random, tuple(self.start.queries))

    def merged_model(self) -> ModelFolder:
        """Return a stock nnU-Net model; raise `UsageError` where the method does not merge."""
        model = self.model()
        return replace(model, plans=model.stock_plans, weights=self.start.network.merged_state_dict())


def fit_network(
    start: Start,
    label: str,
    checkpoint: FitCheckpoint | None = None,
    on_step: OnStep = unreported,
    features: Path | None = None,
) -> FittedNetwork:
    """Train, or resume from a checkpoint.

    Args:
        start: job, network and volumes.
        label: text of the progress bar.
        checkpoint: keeps the state.
        on_step: is told of every step.
        features: folder of features on disk, for methods that read the last ones only; None keeps none.

    Raises:
        FssegError: the loss is not finite.
    """
    return FittedNetwork(start, train(start, label, checkpoint, on_step, features=features))
