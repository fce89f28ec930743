"""Stage: segment images with a run of `fsseg adapt` or `fsseg pretrain`, or with adapters on their base."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.recipes import LEAST_TILE_STEP
from fsseg.config.results import WrittenResult
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.config.staging import staging_of
from fsseg.data.intensity_scale import scale_notes
from fsseg.nnunet.prediction import Predictor
from fsseg.prediction.cases import find_cases, require_segmented, require_usable, warn_of_orientations
from fsseg.prediction.finished_cases import FINISHED_NAME, FinishedCases
from fsseg.prediction.inputs import PredictionInputs
from fsseg.prediction.model import PredictionModel, run_to_predict
from fsseg.prediction.plan import PredictPlan, plan_of
from fsseg.prediction.segmenting import Segmenting
from fsseg.prediction.stacked_adapters import adapters_to_predict
from fsseg.training.seeding import resolve_device

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


@dataclass(frozen=True)
class PredictResult(PredictPlan, WrittenResult):
    """What a prediction did."""


def plan_predict(config: PredictConfig) -> PredictPlan:
    """Check everything, and return what a prediction would do; nothing is written.

    Raises:
        UsageError, FssegError: as `run_predict`.
    """
    chosen, inputs = _checked(config)
    finished = FinishedCases(staging_of(config.output), _fingerprint(config, chosen))
    done = sum(case.name in finished and finished.holds(case.name, case.hashes()) for case in inputs.usable)
    return plan_of(chosen, inputs, inputs.problems, done, config.output)


def run_predict(config: PredictConfig) -> PredictResult:
    """Predict; the output folder is complete or absent. With the same settings, one that was stopped is resumed.

    Raises:
        UsageError: the run is no model folder, two adapters have a structure in common, the input holds no images,
            the output exists.
        FssegError: a case cannot be used and is not to be skipped, or none can; an adapter is damaged or of another
            base.

    Example:
        >>> result = run_predict(PredictConfig(run=Path("runs/larynx"), input=Path("images"), output=Path("masks")))
        >>> result.cases, result.structures
        (12, ('larynx',))
    """
    chosen, inputs = _checked(config)
    manifest = Manifest("predict", config.model_dump(mode="json"))
    manifest.add_inputs(chosen.files)
    predictor = Predictor(chosen.network, chosen.model, resolve_device(config.device), chosen.folds)
    with new_run_folder(config.output, checkpoints=FINISHED_NAME, resume=True) as staging:
        finished = FinishedCases(staging, _fingerprint(config, chosen))
        job = Segmenting(predictor, finished, save_probabilities=config.save_probabilities)
        job.run(inputs.usable)
        bad = {**inputs.problems, **job.bad}
        require_segmented(bad, len(inputs.cases), staging, skip_bad=config.skip_bad)
        write_json(staging / "dataset.json", chosen.model.dataset_json)
        write_json(staging / "plans.json", chosen.model.plans)
        if bad:
            write_json(staging / NOT_SEGMENTED_NAME, bad)
        plan = plan_of(chosen, inputs, bad, job.finished_before, config.output)
        manifest.add_hashes(job.hashes)
        manifest.add_seconds(job.earlier_seconds)
        manifest.add(**plan.as_json(), notes=scale_notes(predictor.preprocessor.off_scale))
        result = PredictResult(**vars(plan), manifest=manifest.write(staging))
    (config.output / FINISHED_NAME).unlink()  # only now: what is killed before this is resumed from it
    return result


def _checked(config: PredictConfig) -> tuple[PredictionModel, PredictionInputs]:
    """Return what segments, and the cases, after all checks that need no network."""
    require_new(config.output)
    resolve_device(config.device)
    chosen = _model(config)
    inputs = find_cases(config.input, chosen.model, config.cases)
    require_usable(inputs, config.input, skip_bad=config.skip_bad)
    warn_of_orientations(chosen.model, inputs)
    return chosen, inputs


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
    return chosen.adjusted(config.tile_step_size, mirroring=config.mirroring)


def _fingerprint(config: PredictConfig, chosen: PredictionModel) -> str:
    return chosen.fingerprint(device=resolve_device(config.device).type, save_probabilities=config.save_probabilities)
