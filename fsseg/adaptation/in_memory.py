"""A network that was adapted, in memory: to look at, to segment with, and to save."""

import os
from pathlib import Path

import SimpleITK
from torch import nn

from fsseg.adaptation.estimate import Estimate
from fsseg.adaptation.fitted import TrainingFacts
from fsseg.adaptation.outcome import Outcome
from fsseg.adaptation.plan import AdaptPlan
from fsseg.adaptation.result import write_outcome
from fsseg.config.run_folder import new_run_folder
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.model import PredictionModel
from fsseg.prediction.one_image import segment_image


class Adaptation:
    """A network that was adapted.

    Attributes:
        plan: what was trained on what: structures, support cases, counts of parameters.
        training: steps, seconds and the loss at the end.
        estimate: DSC to expect by structure, from leave-one-out; None if it was not asked for.
        notes: what a user should know, the urgent first.
        network: the adapted network, in evaluation mode; (B, channels, D, H, W) images as the plans of the base
            preprocess them to logits (B, structures, D, H, W).
        model: plans, labels and axes to mirror, for predictions.
    """

    def __init__(self, outcome: Outcome) -> None:
        fitted, plan = outcome.fitted, outcome.prepared.plan
        self._outcome = outcome
        outcome.prepared.manifest.stop_clock()  # what passes until it is saved is no time of the run
        self.plan: AdaptPlan = plan
        self.training: TrainingFacts = fitted.facts
        self.estimate: Estimate | None = outcome.estimate
        self.notes: list[str] = [*plan.urgent, *plan.notes, *fitted.silent]
        self.network: nn.Module = fitted.start.network.network.eval()
        self.model: ModelFolder = fitted.model()

    def predict(self, image: str | os.PathLike[str]) -> SimpleITK.Image:
        """Segment an image.

        Args:
            image: an image file, of several channels the first one (CASE_0000.nii.gz), or the folder of a DICOM series.

        Returns:
            The label map in the geometry of the image. Its integers mean what `model.dataset_json["labels"]` says; as
            an array in z, y, x it is `SimpleITK.GetArrayFromImage(mask)`.

        Raises:
            fsseg.config.errors.UsageError: there is no image, or more than one.
            fsseg.config.errors.FssegError: the image cannot be used.

        Example:
            >>> mask = result.predict("ct.nii.gz")
            >>> SimpleITK.WriteImage(mask, "larynx.nii.gz")
        """
        model = PredictionModel(self.model, self.network, folds=(), weights_sha256=(), checkpoints=(), files=())
        return segment_image(model, Path(image), str(self._outcome.fitted.start.job.device))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the run folder that `fsseg adapt` writes; `fsseg predict --run` segments with it.

        Raises:
            fsseg.config.errors.UsageError: the folder exists.
            fsseg.config.errors.FssegError: no space is left, or the folder cannot be written.

        Example:
            >>> result.save("runs/larynx")
        """
        out = Path(folder)
        self._outcome.prepared.manifest.content["config"]["out"] = str(out)
        with new_run_folder(out) as staging:
            write_outcome(self._outcome, staging, out)
