"""Stage: train one universal encoder on a partially labelled dataset."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError, unknown_name
from fsseg.config.manifest import Manifest
from fsseg.config.pretraining import PLANS_KEY, PretrainSettings
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.config.staging import staging_of
from fsseg.data.dataset_json import read_dataset_json
from fsseg.data.folder_listing import listed
from fsseg.data.splits_file import require_splits
from fsseg.data.structures import STRUCTURES_NAME
from fsseg.nnunet.environment import SPLITS_NAME, dataset_folder, preprocessed_folder, structures_folder
from fsseg.nnunet.mirroring import flips_of_pretraining
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.preprocessed_dataset import require_all_cases
from fsseg.nnunet.preprocessed_structures import preprocessed_structures
from fsseg.nnunet.pretraining.objective import require_loss_fits
from fsseg.pretraining.cost import memory_warnings, pretraining_cost
from fsseg.pretraining.notes import (
    class_notes,
    data_notes,
    fold_notes,
    process_notes,
    random_start_notes,
    recipe_notes,
    unvalidated,
)
from fsseg.pretraining.resume import require_same_training, training_block
from fsseg.pretraining.start import inherited, require_fits, seen_cases, seen_notes, start_from, start_notes
from fsseg.training.placement import require_precision
from fsseg.training.processes import Processes, several_processes
from fsseg.training.seeding import resolve_device

logger = logging.getLogger(__name__)


class PretrainConfig(StrictModel):
    """What to pretrain.

    Attributes:
        dataset: number or name of a preprocessed dataset.
        plans: name of its plans.
        out: run folder to make: an nnU-Net model folder.
        settings: steps, optimiser, sampling, seed.
        recipe: whose settings these are, to say where plans differ from what it was published with.
        fold: 0 holds out a share of every source for validation, "all" trains on everything.
        device: auto, cpu, cuda, cuda:N or mps.
        checkpoint: model folder whose weights the training starts from; None for random ones.
        resume: continue an unfinished run.
    """

    dataset: str
    plans: str
    out: Path
    settings: PretrainSettings
    recipe: str = "default"
    fold: str = "0"
    device: str = "auto"
    checkpoint: Path | None = None
    resume: bool = False


@dataclass(frozen=True)
class _Job:
    """One training, checked.

    Attributes:
        config: as the user gave it.
        preprocessed: folder of its dataset.
        plans: with the settings.
        dataset_json: of the run to make.
        facts: for the manifest.
        notes: on what it starts from.
        seen: cases that the base was trained on.
    """

    config: PretrainConfig
    preprocessed: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    facts: dict[str, Any]
    notes: list[str]
    seen: set[str]


def run_pretrain(config: PretrainConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Pretrain; the run folder is complete or absent, and an unfinished run can be resumed.

    Of several processes the first returns the manifest and the others nothing.

    Raises:
        UsageError: unknown dataset or plans, a base that does not fit, or the output folder exists.
        FssegError: a structure that no case shows, damaged data or checkpoint, no space left.
    """
    job = _checked(config)
    if dry_run:
        return _cost(job)
    manifest = Manifest("pretrain", config.model_dump(mode="json"), config.settings.seed)
    manifest.add_inputs(_inputs(job))
    if config.resume:
        require_same_training(job.plans, staging_of(config.out))
    with several_processes(resolve_device(config.device)) as (processes, device), _run_folder(config) as staging:
        trainer = _trainer(job, staging, device)
        notes = _notes(job, trainer)
        warnings = [*notes, *memory_warnings(trainer)]
        if processes.writes and warnings:  # before the training, which may last for days
            logger.warning("\n".join(warnings))
        manifest.add(**job.facts, notes=notes, processes=processes.count, held_out=trainer.do_split()[1])
        manifest.add(parameters=sum(p.numel() for p in trainer.network.parameters()))
        trainer.run_training()
        if not processes.writes:
            return {}
        manifest.add_seconds(trainer.course.earlier_seconds)
        manifest.add(resumed_at=list(trainer.course.resumed_at))
        dice = _last_validation(staging)
        held_out = [trainer.structures.annotation(case) for case in trainer.do_split()[1]]
        manifest.add(validation_dice=dice, unvalidated=unvalidated(dice, held_out))
        content = manifest.write(staging)
    return content


def _checked(config: PretrainConfig) -> _Job:
    """Check what was asked for, before anything is written; no weights stay in memory."""
    require_precision(resolve_device(config.device), config.settings.precision)
    preprocessed = dataset_folder(preprocessed_folder(), config.dataset)
    structures = preprocessed_structures(preprocessed)
    plans = _read_plans(preprocessed, config)
    require_all_cases(preprocessed, plans, structures)
    if config.fold not in ("0", "all"):
        raise UsageError(f"Unknown fold {config.fold!r}.\n  allowed: 0 (hold some cases out), all (train on all cases)")
    if config.fold != "all" and (preprocessed / SPLITS_NAME).is_file():
        require_splits(preprocessed / SPLITS_NAME, structures.cases)
    require_loss_fits(config.settings, structures)
    flips = flips_of_pretraining(config.settings, structures.names)
    require_new(config.out, resume=config.resume)
    dataset_json = read_dataset_json(preprocessed / "dataset.json")
    base = None if config.checkpoint is None else ModelFolder.read(config.checkpoint)
    notes, seen = random_start_notes(config.recipe, plans), set[str]()
    if base is not None:
        require_fits(base, plans, dataset_json, preprocessed.name)
        dataset_json = inherited(dataset_json, base)
        notes, seen = start_notes(base, plans, structures.names), seen_cases(base)
    plans[PLANS_KEY] = training_block(config.settings, preprocessed, structures, config.fold, base)
    block = plans["configurations"][CONFIGURATION]
    facts = {
        "dataset": preprocessed.name,
        "cases": len(structures.cases),
        "structures": list(structures.names),
        "patch_size": block["patch_size"],
        "batch_size": block["batch_size"],
        "base": None if base is None else base.provenance(),
        "mirroring_axes": list(flips.axes),
    }
    return _Job(config, preprocessed, plans, dataset_json, facts, notes, seen)


def _cost(job: _Job) -> dict[str, Any]:
    """Return what the training would cost, of the first of several processes."""
    with several_processes(resolve_device(job.config.device)) as (processes, device), TemporaryDirectory() as folder:
        processes.share_of(job.facts["batch_size"])
        trainer = _trainer(job, Path(folder), device)
        facts = {**job.facts, "notes": _notes(job, trainer), **pretraining_cost(trainer, job.preprocessed)}
        out = str(job.config.out)
        return {**facts, "steps": job.config.settings.steps, "out": out} if processes.writes else {}


def _notes(job: _Job, trainer: Any) -> list[str]:
    held_out = trainer.do_split()[1]
    return [
        *recipe_notes(job.config.recipe, job.config.settings, job.plans),
        *fold_notes(job.preprocessed, job.config.fold),
        *job.notes,
        *seen_notes(job.seen, held_out),
        *process_notes(trainer.plain_network, trainer.processes.count),
        *class_notes(trainer.dataset_json),
        trainer.flips.reason,
        *data_notes(trainer.structures, held_out),
    ]


def _inputs(job: _Job) -> list[Path]:
    """Return the files that say what is trained; structures.json may lie beside the raw cases, or be missing."""
    files = [job.preprocessed / f"{job.config.plans}.json", job.preprocessed / "dataset.json"]
    structures = structures_folder(job.preprocessed) / STRUCTURES_NAME
    return [*files, structures] if structures.is_file() else files


@contextmanager
def _run_folder(config: PretrainConfig) -> Iterator[Path]:
    """Yield the staging folder: made, completed or removed by the first of the processes."""
    processes = Processes.current()
    if processes.writes:
        with new_run_folder(config.out, checkpoints="fold_*/checkpoint_*.pth", resume=config.resume) as staging:
            processes.wait()
            yield staging
            processes.wait()
    else:
        processes.wait()
        yield staging_of(config.out)
        processes.wait()


def _read_plans(preprocessed: Path, config: PretrainConfig) -> dict[str, Any]:
    file = preprocessed / f"{config.plans}.json"
    if not file.is_file():
        known = [path.stem for path in listed(preprocessed, "*.json") if "configurations" in path.read_text("utf-8")]
        raise unknown_name(
            "plans", config.plans, known, f"Make plans with `fsseg preprocess --dataset {config.dataset}`."
        )
    return read_plans_file(file)


def _trainer(job: _Job, folder: Path, device: torch.device) -> Any:
    """Return the trainer, with the weights that it starts from or goes on with."""
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    config = job.config
    of_fold = folder / f"fold_{config.fold}"
    # A final checkpoint alone: the run was trained to its end, and then its folder could not be completed.
    found = [file for name in ("latest", "final") if (file := of_fold / f"checkpoint_{name}.pth").is_file()]
    resume_from = found[0] if config.resume and found else None
    trainer = make_trainer(
        plans=job.plans,
        fold=config.fold if config.fold == "all" else int(config.fold),
        dataset_json=job.dataset_json,
        device=device,
        folder=folder,
        resume_from=resume_from,
    )
    if config.checkpoint is not None and resume_from is None:
        base = ModelFolder.read(config.checkpoint)
        start_from(trainer.plain_network, base, trainer.structures.names, config.settings.seed)
    return trainer


def _last_validation(folder: Path) -> dict[str, float | None]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])["validation_dice"]
