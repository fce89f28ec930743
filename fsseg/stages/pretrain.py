"""Stage: train one universal encoder on a partially labelled dataset."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError, unknown_name
from fsseg.config.json_files import read_json
from fsseg.config.manifest import Manifest
from fsseg.config.pretraining import PLANS_KEY, PretrainSettings
from fsseg.config.run_folder import new_run_folder, require_new, staging_of
from fsseg.data.structures import STRUCTURES_NAME, load_structures
from fsseg.nnunet.environment import dataset_folder, preprocessed_folder, structures_folder
from fsseg.nnunet.model_folder import ModelFolder, read_model_folder
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.preprocessed_dataset import require_all_cases
from fsseg.nnunet.pretrain_objective import require_loss_fits
from fsseg.stages.pretrain_notes import data_notes, process_notes, random_start_notes, recipe_notes
from fsseg.stages.pretrain_resume import require_same_training, training_block
from fsseg.stages.pretrain_start import inherited, input_notes, require_fits, start_from, start_notes
from fsseg.stages.pretraining_cost import pretraining_cost
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
        device: auto, cpu, cuda or mps.
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
    """One training: its plans with the settings, its preprocessed dataset, and the base that it starts from if any."""

    config: PretrainConfig
    plans: dict[str, Any]
    preprocessed: Path
    base: ModelFolder | None

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """The dataset.json of the preprocessed dataset."""
        return read_json(self.preprocessed / "dataset.json")


def run_pretrain(config: PretrainConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Pretrain; the run folder is complete or absent, and an unfinished run can be resumed.

    Of several processes the first returns the manifest and the others nothing.

    Raises:
        UsageError: unknown dataset or plans, or the output folder exists.
        FssegError: a structure that no case shows, damaged data or checkpoint, no space left.
    """
    preprocessed = dataset_folder(preprocessed_folder(), config.dataset)
    structures = load_structures(structures_folder(preprocessed))
    plans = _read_plans(preprocessed, config)
    base = None if config.checkpoint is None else read_model_folder(config.checkpoint)
    plans[PLANS_KEY] = training_block(config.settings, preprocessed.name, structures, config.fold, base)
    require_all_cases(preprocessed, plans, structures)
    if config.fold not in ("0", "all"):
        raise UsageError(f"Unknown fold {config.fold!r}.\n  allowed: 0 (hold some cases out), all (train on all cases)")
    require_loss_fits(config.settings, structures)
    require_new(config.out, resume=config.resume)
    job = _Job(config, plans, preprocessed, base)
    if base is not None:
        require_fits(base, plans, job.dataset_json, preprocessed.name)
    block = plans["configurations"][CONFIGURATION]
    facts = {
        "dataset": preprocessed.name,
        "cases": len(structures.cases),
        "structures": list(structures.names),
        "patch_size": block["patch_size"],
        "batch_size": block["batch_size"],
        "base": None if base is None else base.provenance(),
    }
    if dry_run:
        return _cost(job, facts)
    manifest = Manifest("pretrain", config.model_dump(mode="json"), config.settings.seed)
    manifest.add_inputs(_inputs(preprocessed, config))
    if config.resume:
        require_same_training(plans, staging_of(config.out))
    with several_processes(resolve_device(config.device)) as (processes, device), _run_folder(config) as staging:
        trainer, notes = _trainer(job, staging, device)
        if processes.writes and notes:  # before the training, which may last for days
            logger.warning("\n".join(notes))
        manifest.add(**facts, notes=notes, processes=processes.count, held_out=trainer.do_split()[1])
        manifest.add(parameters=sum(p.numel() for p in trainer.network.parameters()))
        trainer.run_training()
        if not processes.writes:
            return {}
        manifest.add(validation_dice=_last_validation(staging))
        content = manifest.write(staging)
    return content


def _cost(job: _Job, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the training would cost, of the first of several processes."""
    with several_processes(resolve_device(job.config.device)) as (processes, device), TemporaryDirectory() as folder:
        processes.share_of(facts["batch_size"])
        trainer, notes = _trainer(job, Path(folder), device)
        facts |= {"notes": notes, **pretraining_cost(trainer, job.preprocessed)}
        out = str(job.config.out)
        return {**facts, "steps": job.config.settings.steps, "out": out} if processes.writes else {}


def _notes(config: PretrainConfig, trainer: Any) -> list[str]:
    return [
        *recipe_notes(config.recipe, config.settings, trainer.plans_manager.plans),
        *process_notes(trainer.plain_network, trainer.processes.count),
        *data_notes(trainer.structures, trainer.do_split()[1]),
    ]


def _inputs(preprocessed: Path, config: PretrainConfig) -> list[Path]:
    """Return the files that say what is trained; structures.json may lie beside the raw cases, or be missing."""
    files = [preprocessed / f"{config.plans}.json", preprocessed / "dataset.json"]
    structures = structures_folder(preprocessed) / STRUCTURES_NAME
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
        known = [path.stem for path in preprocessed.glob("*.json") if "configurations" in path.read_text("utf-8")]
        raise unknown_name(
            "plans", config.plans, known, f"Make plans with `fsseg preprocess --dataset {config.dataset}`."
        )
    return read_plans_file(file)


def _trainer(job: _Job, folder: Path, device: torch.device) -> tuple[Any, list[str]]:
    """Return the trainer, with the weights that it starts from, and what a user should know of the training."""
    from fsseg.nnunet.pretraining import make_trainer

    config, base = job.config, job.base
    of_fold = folder / f"fold_{config.fold}"
    # A final checkpoint alone: the run was trained to its end, and then its folder could not be completed.
    found = [file for name in ("latest", "final") if (file := of_fold / f"checkpoint_{name}.pth").is_file()]
    resume_from = found[0] if config.resume and found else None
    trainer = make_trainer(
        plans=job.plans,
        fold=config.fold if config.fold == "all" else int(config.fold),
        dataset_json=job.dataset_json if base is None else inherited(job.dataset_json, base),
        device=device,
        folder=folder,
        resume_from=resume_from,
    )
    notes = _notes(config, trainer)
    if base is None:
        notes += random_start_notes(config.recipe)
    else:
        notes += input_notes(base, job.plans, job.dataset_json)
        notes += start_notes(base, trainer.structures.names)
        if resume_from is None:
            start_from(trainer.plain_network, base, trainer.structures.names, config.settings.seed)
    return trainer, notes


def _last_validation(folder: Path) -> dict[str, float | None]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])["validation_dice"]
