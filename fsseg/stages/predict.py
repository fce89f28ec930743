"""Stage: segment images with a run of `fsseg adapt` or `fsseg pretrain`, or with adapters on their base."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.adaptation.prediction_model import PredictionModel, adapters_to_predict, run_to_predict
from fsseg.config.base import StrictModel
from fsseg.config.errors import FssegError, UsageError, listed_problems, require_known
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.recipes import LEAST_TILE_STEP
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.config.staging import staging_of
from fsseg.data.intensity_scale import scale_notes
from fsseg.nnunet.finished_cases import FINISHED_NAME, FinishedCases
from fsseg.nnunet.image_readers import reader_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.prediction import Predictor
from fsseg.nnunet.prediction_files import checked
from fsseg.nnunet.prediction_inputs import InputFinder, PredictionInputs
from fsseg.nnunet.segmenting import Segmenting
from fsseg.nnunet.stored_orientation import mixed_orientations, stored_orientations
from fsseg.training.seeding import resolve_device

log = logging.getLogger(__name__)

NOT_SEGMENTED_NAME = "not_segmented.json"  # case -> why


class PredictConfig(StrictModel):
    """What to predict.

    Attributes:
        run: model folder; or else
        base, adapters: model folder and the adapter files to run on it together.
        folds: of the run, by number or "all"; none takes all numbers that are there, as nnU-Net does.
        checkpoint_name: of the run's folds; None takes the last checkpoints, or else those that validated best.
        input: an image file, a folder of images or DICOM files, or a folder of DICOM folders.
        output: folder to make: one label map a case, and dataset.json with the meaning of the integers.
        cases: only these cases of the input; None means all.
        tile_step_size: step of the sliding window as a share of the patch; smaller is slower and smoother. None takes
            that of the run, or the smallest of the adapters.
        mirroring: average over flips of the axes that the run, or every adapter, allows.
        save_probabilities: also write what nnU-Net's ensembles read.
        skip_bad: segment the others where a case cannot be used.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    run: Path | None = None
    base: Path | None = None
    adapters: tuple[Path, ...] = ()
    folds: tuple[str, ...] = ()
    checkpoint_name: str | None = None
    input: Path
    output: Path
    cases: tuple[str, ...] | None = None
    tile_step_size: float | None = Field(default=None, ge=LEAST_TILE_STEP, le=1)
    mirroring: bool = True
    save_probabilities: bool = False
    skip_bad: bool = False
    device: str = "auto"


def run_predict(config: PredictConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Predict; the output folder is complete or absent. A prediction that was stopped goes on with the same settings.

    Returns:
        The content of the manifest; `not_segmented` says which cases were skipped as bad, and why.

    Raises:
        UsageError: the run is no model folder, two adapters have a structure in common, the input holds no images,
            the output exists.
        FssegError: a case cannot be used and is not to be skipped, or none can; an adapter is damaged or of another
            base.
    """
    require_new(config.output)
    device = resolve_device(config.device)
    chosen = _model(config)
    inputs = _inputs(config, chosen.model)
    _require_usable(config, inputs)
    _say_orientations(chosen.model, inputs)
    fingerprint = chosen.fingerprint(device=device.type, save_probabilities=config.save_probabilities)
    if dry_run:
        return _plan(config, chosen, inputs, FinishedCases(staging_of(config.output), fingerprint))
    manifest = Manifest("predict", config.model_dump(mode="json"))
    manifest.add_inputs(chosen.files)
    predictor = Predictor(chosen.network, chosen.model, device, chosen.folds)
    with new_run_folder(config.output, checkpoints=FINISHED_NAME, resume=True) as staging:
        job = Segmenting(predictor, FinishedCases(staging, fingerprint), save_probabilities=config.save_probabilities)
        job.run(inputs.usable)
        bad = {**inputs.problems, **job.bad}
        _require_rest(config, inputs, bad, staging)
        write_json(staging / "dataset.json", chosen.model.dataset_json)
        write_json(staging / "plans.json", chosen.model.plans)
        if bad:
            write_json(staging / NOT_SEGMENTED_NAME, bad)
        manifest.add_hashes(job.hashes)
        manifest.add_seconds(job.earlier_seconds)
        manifest.add(**_facts(config, chosen, inputs, bad), finished_before=job.finished_before)
        manifest.add(notes=scale_notes(predictor.preprocessor.off_scale))
        content = manifest.write(staging)
    (config.output / FINISHED_NAME).unlink()  # only now: what is killed before this goes on from it
    return content


def _model(config: PredictConfig) -> PredictionModel:
    """Return the model to run, with the axes to mirror and the step that were asked for."""
    if (config.run is None) == (config.base is None) or bool(config.adapters) != (config.base is not None):
        raise UsageError("Give either --run, or --base and --adapter.")
    if config.run is not None:
        chosen = run_to_predict(config.run, config.folds, config.checkpoint_name)
    else:
        assert config.base is not None
        if config.folds or config.checkpoint_name:
            raise UsageError("--folds and --checkpoint-name go with --run: an adapter belongs to one checkpoint.")
        chosen = adapters_to_predict(config.base, config.adapters)
    model = replace(
        chosen.model,
        mirroring_axes=chosen.model.mirroring_axes if config.mirroring else None,
        tile_step_size=config.tile_step_size or chosen.model.tile_step_size,
    )
    return replace(chosen, model=model)


def _inputs(config: PredictConfig, model: ModelFolder) -> PredictionInputs:
    """Return the cases to segment, each with its problem if its headers tell one."""
    inputs = InputFinder(model).find(config.input)
    if config.cases is not None:
        found = {case.name: case for case in inputs.cases}
        require_known("case", config.cases, found, f"{config.input} holds the allowed ones.")
        inputs = replace(inputs, cases=tuple(found[name] for name in dict.fromkeys(config.cases)))
    if inputs.ignored:
        log.warning("Not segmented, because %s: %s", inputs.ignored_because, ", ".join(inputs.ignored))
    reader = reader_of(model.plans)
    return replace(inputs, cases=tuple(checked(case, reader) for case in inputs.cases))


def _require_usable(config: PredictConfig, inputs: PredictionInputs) -> None:
    """Refuse to begin with bad cases that are not to be skipped, or without a good one."""
    if not inputs.problems or (config.skip_bad and inputs.usable):
        return
    problems = [f"{case}: {problem}" for case, problem in inputs.problems.items()]
    others = ", or segment the others with --skip-bad" if inputs.usable else ""
    raise FssegError(
        f"{listed_problems(problems, f'{len(inputs.cases)} case(s) of {config.input}')}\n"
        f"  Repair or remove the files{others}."
    )


def _require_rest(config: PredictConfig, inputs: PredictionInputs, bad: dict[str, str], staging: Path) -> None:
    """Refuse to complete the folder without cases that turned out bad and are not to be skipped."""
    segmented = len(inputs.cases) - len(bad)
    if not bad or (config.skip_bad and segmented):
        return
    advice = "  Repair or remove the files."
    if segmented:
        advice = (
            f"  The {segmented} others are segmented and kept in {staging}: repair or remove the files, then give the"
            " command again; --skip-bad completes the folder without them."
        )
    raise FssegError(f"{len(bad)} of {len(inputs.cases)} case(s) cannot be segmented:\n{_listed(bad)}\n{advice}")


def _listed(bad: dict[str, str]) -> str:
    return "\n".join(f"  - {case}: {problem}" for case, problem in bad.items())


def _say_orientations(model: ModelFolder, inputs: PredictionInputs) -> None:
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


def _facts(
    config: PredictConfig, chosen: PredictionModel, inputs: PredictionInputs, bad: dict[str, str]
) -> dict[str, Any]:
    return {
        "run": str(config.run or config.base),
        "checkpoints": [str(file) for file in chosen.checkpoints],
        "adapters": [str(file) for file in config.adapters],
        "cases": len(inputs.cases) - len(bad),
        "not_segmented": bad,
        "ignored": list(inputs.ignored),
        "structures": list(chosen.model.structures.names),
        "mirroring_axes": list(chosen.model.mirroring_axes or ()),
        "tile_step_size": chosen.model.tile_step_size,
    }


def _plan(
    config: PredictConfig, chosen: PredictionModel, inputs: PredictionInputs, finished: FinishedCases
) -> dict[str, Any]:
    """Return what a run would do."""
    done = sum(case.name in finished and finished.holds(case.name, case.hashes()) for case in inputs.usable)
    return {**_facts(config, chosen, inputs, inputs.problems), "finished_before": done, "out": str(config.output)}
