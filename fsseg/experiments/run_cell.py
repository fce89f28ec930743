"""One cell of a table: adapt, predict the test cases, score them; what is done of it is not done again."""

import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json
from fsseg.data.structures import structures_of_dataset_json
from fsseg.evaluation.fseft import NATIVE, Protocol
from fsseg.evaluation.metrics_csv import write_case_rows
from fsseg.experiments.definition.cell_settings import ZERO_SHOT
from fsseg.experiments.definition.table_file import Scoring
from fsseg.experiments.workspace import RunFolder
from fsseg.methods.adapter_file import ADAPTER_NAME
from fsseg.nnunet.environment import nnunet_folders
from fsseg.stages.adapt import AdaptConfig, run_adapt
from fsseg.stages.evaluate import EvaluateConfig, run_evaluate
from fsseg.stages.predict import PredictConfig, run_predict


@dataclass(frozen=True)
class CellJob:
    """What a process needs to run one cell.

    Attributes:
        folder: where the run goes.
        base: model folder of the base.
        raw, preprocessed: nnU-Net's folders.
        dataset: folder of the raw dataset.
        settings: of the adaptation.
        cases: support cases by name; None draws them.
        pool: cases to draw from; None for all but the test cases.
        test: cases that are scored.
        transductive: whether their images take part in the training, without their label maps.
        scoring: how it is scored.
        device: where it runs.
    """

    folder: RunFolder
    base: Path
    raw: Path
    preprocessed: Path
    dataset: Path
    settings: AdaptationSettings
    cases: tuple[str, ...] | None
    pool: tuple[str, ...] | None
    test: tuple[str, ...]
    transductive: bool
    scoring: Scoring
    device: str

    @property
    def name(self) -> str:
        """The name of the run's folder, which tells it from all others."""
        return self.folder.path.name

    @property
    def is_zero_shot(self) -> bool:
        """Whether the base is scored as it is."""
        return self.settings.method == ZERO_SHOT


def run_cell(job: CellJob) -> str:
    """Adapt, predict and score; return "" or the message of the failure, which lies beside the run, too."""
    job.folder.path.mkdir(parents=True, exist_ok=True)
    for left in (job.folder.failure, job.folder.details):
        left.unlink(missing_ok=True)
    try:
        with nnunet_folders(raw=job.raw, preprocessed=job.preprocessed):
            _run(job)
    except FssegError as error:
        return note_failure(job.folder, str(error), str(error))
    except Exception as error:  # noqa: BLE001 - such as no memory left: the others go on, and the traceback is kept
        return note_failure(job.folder, f"{type(error).__name__}: {error}", traceback.format_exc())
    return ""


def _run(job: CellJob) -> None:
    structures = job.settings.structures
    if job.is_zero_shot:
        names = structures_of_dataset_json(read_json(job.base / "dataset.json"), job.base).names
        structures = tuple(name for name in structures if name in names)
        if not structures:
            for file in (*job.folder.other_metrics.values(), job.folder.metrics):
                unfinished = file.with_suffix(".tmp")
                write_case_rows(unfinished, [])
                unfinished.replace(file)
            return
    else:
        _adapt(job)
    _predict(job)
    files: dict[Protocol, Path] = {**job.folder.other_metrics, NATIVE: job.folder.metrics}
    for protocol, file in files.items():
        if not file.is_file():
            _score(job, structures, protocol, file)


def note_failure(folder: RunFolder, message: str, details: str = "") -> str:
    """Write why a run failed beside it, if there is room; return the message."""
    with suppress(OSError):
        folder.failure.write_text(f"{message}\n", encoding="utf-8")
        if details:
            folder.details.write_text(f"{details}\n", encoding="utf-8")
    return message


def _adapt(job: CellJob) -> None:
    if job.folder.adaptation.is_dir():
        return
    run_adapt(
        AdaptConfig(
            **{name: getattr(job.settings, name) for name in AdaptationSettings.model_fields},
            checkpoint=job.base,
            dataset=job.dataset.name,
            pool=None if job.cases else job.pool,
            test=job.test,
            cases=job.cases,
            transductive=job.test if job.transductive else None,
            out=job.folder.adaptation,
            device=job.device,
        )
    )


def _predict(job: CellJob) -> None:
    if job.folder.predictions.is_dir():
        return
    run = job.base if job.is_zero_shot else job.folder.adaptation
    adapter = job.folder.adaptation / ADAPTER_NAME
    merged = (run / "dataset.json").is_file()
    run_predict(
        PredictConfig(
            run=run if merged else None,
            base=None if merged else job.base,
            adapters=() if merged else (adapter,),
            input=job.dataset / "imagesTr",
            output=job.folder.predictions,
            cases=job.test,
            tile_step_size=job.scoring.tile_step_size,
            mirroring=job.scoring.mirroring,
            device=job.device,
        )
    )


def _score(job: CellJob, structures: tuple[str, ...], protocol: Protocol, out: Path) -> None:
    run_evaluate(
        EvaluateConfig(
            prediction=job.folder.predictions,
            reference=job.dataset / "labelsTr",
            out=out,
            structures=structures,
            cases=job.test,
            tolerance_mm=job.scoring.tolerance_mm,
            protocol=protocol,
        )
    )
