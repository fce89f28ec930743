"""One image segmented in memory, for Python: no folder is made."""

from pathlib import Path
from tempfile import TemporaryDirectory

import SimpleITK

from fsseg.config.errors import FssegError, UsageError
from fsseg.data.images import read_image
from fsseg.nnunet.prediction import Predictor
from fsseg.prediction.cases import find_cases, require_usable, warn_of_orientations
from fsseg.prediction.finished_cases import FinishedCases
from fsseg.prediction.model import PredictionModel
from fsseg.prediction.segmenting import Segmenting
from fsseg.training.seeding import resolve_device


def segment_image(chosen: PredictionModel, image: Path, device: str = "auto") -> SimpleITK.Image:
    """Return the label map of an image, in the image's own geometry.

    Args:
        chosen: what segments it; what its integers mean, `chosen.model.structures` says.
        image: an image file, or the folder of a DICOM series or of the channels of one case.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UsageError: there is no image, or more than one; the device is not there.
        FssegError: the image cannot be used.

    Example:
        >>> labels = segment_image(run_to_predict(Path("runs/larynx")), Path("ct.nii.gz"))
        >>> SimpleITK.GetArrayFromImage(labels).shape  # axes z, y, x
        (120, 512, 512)
    """
    inputs = find_cases(image, chosen.model)
    if len(inputs.cases) != 1:
        names = ", ".join(case.name for case in inputs.cases)
        raise UsageError(f"{image} holds {len(inputs.cases)} cases: {names}\n  Give one, or use fsseg predict.")
    require_usable(inputs, image, skip_bad=False)
    warn_of_orientations(chosen.model, inputs)
    predictor = Predictor(chosen.network, chosen.model, resolve_device(device), chosen.folds)
    with TemporaryDirectory(prefix="fsseg_") as folder:
        job = Segmenting(predictor, FinishedCases(Path(folder), fingerprint=""), save_probabilities=False)
        job.run(inputs.cases)
        if job.bad:
            raise FssegError(f"{image} cannot be segmented: {next(iter(job.bad.values()))}")
        ending = chosen.model.dataset_json["file_ending"]
        return read_image(Path(folder) / f"{inputs.cases[0].name}{ending}")
