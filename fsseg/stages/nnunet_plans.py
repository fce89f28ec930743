"""Stage: plans with which nnU-Net's own commands adapt a base to a dataset."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.adaptation.job import NO_DEVICE, Job, make_job
from fsseg.adaptation.notes import start_notes, urgent_notes
from fsseg.adaptation.start import make_start
from fsseg.adaptation.target import LabelledDataset, require_classes
from fsseg.config.adaptation import AdaptationRequest
from fsseg.config.errors import UsageError
from fsseg.config.few_shot import ADAPT_KEY, FewShotSettings
from fsseg.config.json_files import write_json
from fsseg.config.pretraining import PLANS_KEY
from fsseg.config.results import Result
from fsseg.data.splits import Split, make_split, read_case_lists
from fsseg.data.structures import STRUCTURES_NAME
from fsseg.nnunet.configurations import plans_with
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.environment import dataset_folder, dataset_id_of, preprocessed_folder, raw_folder
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessed_dataset import require_same_integers
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset


class NnunetPlansConfig(AdaptationRequest):
    """What the plans say: as of `fsseg adapt`, but that named cases are a pool, of which all are shots.

    Attributes:
        structures: structures to adapt to; none takes all that the dataset annotates.
        name: name of the plans; None makes one of method and shots.
    """

    structures: tuple[str, ...] = ()
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")


@dataclass(frozen=True)
class NnunetPlansResult(Result):
    """Plans that were written.

    Attributes:
        out: their file.
        plans, configuration: their name, and that of their configuration.
        dataset, dataset_id: name and number of the dataset.
        structures: to adapt to.
        method, decoder: by which; None is the method's default.
        pool, test: cases that may be drawn, and those that never are.
        labelled: whether every image has a label map.
        notes: what a user should know.
    """

    out: Path
    plans: str
    configuration: str
    dataset: str
    dataset_id: int
    structures: tuple[str, ...]
    method: str
    decoder: str | None
    pool: tuple[str, ...]
    test: tuple[str, ...]
    labelled: bool
    notes: list[str]


def run_nnunet_plans(config: NnunetPlansConfig) -> NnunetPlansResult:
    """Write the plans into the dataset's folder in nnUNet_preprocessed.

    Patch, spacing, normalisation and network are the base's; the preprocessed cases are shared by all plans of one
    base.

    Raises:
        UsageError: unknown dataset, structure, method or option; a recipe without a rate for the method; a method that
            is not defined on the base's network; plans of this name exist.

    Example:
        >>> config = NnunetPlansConfig(checkpoint=Path("runs/universal"), dataset="104", method="lora")
        >>> run_nnunet_plans(config).plans
        'fsseg_lora_5shots'
    """
    raw = read_raw_dataset(dataset_folder(raw_folder(), config.dataset))
    config = config.model_copy(update={"structures": config.structures or raw.structures.names})
    job = make_job(config, config.checkpoint, LabelledDataset.of(raw), NO_DEVICE)
    notes = [*raw.unlabelled_notes(), *_notes(job)]
    split = _split(config, raw)
    settings = _settings(config, job.base, split)
    name = config.name or f"fsseg_{config.method.replace(':', '_')}_{settings.shots}shots"
    out = preprocessed_folder() / raw.path.name / f"{name}.json"
    if os.path.lexists(out):
        raise UsageError(
            f"Plans exist already: {out}\n  Trainings refer to them. Choose another --name, or delete the file."
        )
    _write_dataset(raw, out.parent)
    write_json(out, _plans(job.base, raw.path.name, name, settings))
    return NnunetPlansResult(
        out=out,
        plans=name,
        configuration=job.base.configuration,
        dataset=raw.path.name,
        dataset_id=dataset_id_of(raw.path),
        structures=config.structures,
        method=config.method,
        decoder=config.decoder,
        pool=split.pool,
        test=split.test,
        labelled=not raw.unlabelled,
        notes=notes,
    )


def _notes(job: Job) -> list[str]:
    """Build the network once, so that what it refuses, and what a user should know, is said before a training."""
    if job.recipe.activation == "softmax":
        require_classes(job.target, ())
    start = make_start(job, ())
    return [*urgent_notes(start), *start_notes(start)]


def _settings(config: NnunetPlansConfig, base: ModelFolder, split: Split) -> FewShotSettings:
    """Return what the trainer reads out of the plans."""
    said_otherwise = {"dataset", "name", "checkpoint", "cases", "shots", "pool", "test"}
    return FewShotSettings(
        **config.model_dump(exclude=said_otherwise),
        shots=len(split.pool) if config.cases else config.shots,
        pool=split.pool if config.pool or config.cases else None,
        test=split.test,
        checkpoint=config.checkpoint.resolve(),
        base_sha256=base.sha256,
    )


def _write_dataset(raw: RawDataset, folder: Path) -> None:
    """Write what the dataset is into its preprocessed folder; what lies there of other plans must mean the same."""
    if folder.is_dir():
        require_same_integers(folder, raw.structures)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "dataset.json", raw.dataset_json)
    if (raw.path / STRUCTURES_NAME).is_file():
        shutil.copyfile(raw.path / STRUCTURES_NAME, folder / STRUCTURES_NAME)


def _split(config: NnunetPlansConfig, raw: RawDataset) -> Split:
    """Check the lists of cases; of which of the pool a fold trains on, the trainer draws."""
    lists = read_case_lists(config.pool, config.test)
    if config.cases is not None:
        lists["pool"] = config.cases
    return make_split(raw.cases, shots=1, seed=config.seed, duplicates=raw.structures.duplicates, **lists)


def _plans(base: ModelFolder, dataset: str, name: str, settings: FewShotSettings) -> PlansContent:
    data = f"{base.plans['plans_name']}_{base.sha256[:8]}_{base.configuration}"
    plans = plans_with(base.plans, base.configuration, data_identifier=data)
    plans |= {"dataset_name": dataset, "plans_name": name}
    plans[PLANS_KEY] = {ADAPT_KEY: settings.model_dump(mode="json")}
    return plans
