"""The cases of a prediction: chosen from the input, checked, and refused where they cannot be segmented."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fsseg.config.errors import FssegError, listed_problems, require_known
from fsseg.nnunet.image_readers import reader_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.stored_orientation import mixed_orientations, stored_orientations
from fsseg.prediction.input_files import checked
from fsseg.prediction.inputs import InputFinder, PredictionInputs

log = logging.getLogger(__name__)


def find_cases(path: Path, model: ModelFolder, names: Sequence[str] | None = None) -> PredictionInputs:
    """Return the cases to segment, each with its problem if its headers tell one.

    Args:
        path: an image file, a folder of images or DICOM files, or a folder of DICOM folders.
        model: what is to segment them.
        names: only these cases; None means all.

    Raises:
        UsageError: there is no image, or no case of such a name.
    """
    inputs = InputFinder(model).find(path)
    if names is not None:
        found = {case.name: case for case in inputs.cases}
        require_known("case", names, found, f"{path} holds the allowed ones.")
        inputs = replace(inputs, cases=tuple(found[name] for name in dict.fromkeys(names)))
    if inputs.ignored:
        log.warning("Not segmented, because %s: %s", inputs.ignored_because, ", ".join(inputs.ignored))
    reader = reader_of(model.plans)
    return replace(inputs, cases=tuple(checked(case, reader) for case in inputs.cases))


def require_usable(inputs: PredictionInputs, path: Path, *, skip_bad: bool) -> None:
    """Refuse to begin with bad cases that are not to be skipped, or without a good one.

    Raises:
        FssegError: so it is; all bad cases are listed.
    """
    if not inputs.problems or (skip_bad and inputs.usable):
        return
    problems = [f"{case}: {problem}" for case, problem in inputs.problems.items()]
    others = ", or segment the others with --skip-bad" if inputs.usable else ""
    raise FssegError(
        f"{listed_problems(problems, f'{len(inputs.cases)} case(s) of {path}')}\n  Repair or remove the files{others}."
    )


def require_segmented(bad: Mapping[str, str], cases: int, staging: Path, *, skip_bad: bool) -> None:
    """Refuse to complete the folder without cases that turned out bad and are not to be skipped.

    Args:
        bad: case -> why it could not be segmented.
        cases: how many there are, with these.
        staging: folder that keeps the others.
        skip_bad: whether they are to be skipped.

    Raises:
        FssegError: some are bad and not to be skipped, or none could be segmented.
    """
    segmented = cases - len(bad)
    if not bad or (skip_bad and segmented):
        return
    advice = "  Repair or remove the files."
    if segmented:
        advice = (
            f"  The {segmented} others are segmented and kept in {staging}: repair or remove the files, then give the"
            " command again; --skip-bad completes the folder without them."
        )
    listing = "\n".join(f"  - {case}: {problem}" for case, problem in bad.items())
    raise FssegError(f"{len(bad)} of {cases} case(s) cannot be segmented:\n{listing}\n{advice}")


def warn_of_orientations(model: ModelFolder, inputs: PredictionInputs) -> None:
    """Warn where a model that does not turn images will see some as it has seen none."""
    orientations = stored_orientations(model, {case.name: case.first_file for case in inputs.usable})
    if len(orientations) > 1:
        log.warning("%s Some will be segmented as mirror images or turned.", mixed_orientations(orientations))
    elif orientations and any(case.is_series for case in inputs.usable):
        log.warning(
            "The base reads images as they are stored, and DICOM series as %s: if its training images were stored"
            " otherwise, these will be segmented as mirror images or turned.",
            next(iter(orientations)),
        )
