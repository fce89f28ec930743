"""Stage: train one universal encoder on a partially labelled dataset."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
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
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.preprocessed_dataset import require_all_cases
from fsseg.nnunet.pretrain_objective import require_loss_fits
from fsseg.stages.pretrain_notes import data_notes, process_notes, recipe_notes
from fsseg.stages.pretrain_resume import require_same_training, training_block
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
        resume: continue an unfinished run.
    """

    dataset: str
    plans: str
    out: Path
    settings: PretrainSettings
    recipe: str = "default"
    fold: str = "0"
    device: str = "auto"
    resume: bool = False


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
    plans[PLANS_KEY] = training_block(config.settings, preprocessed.name, structures, config.fold)
    require_all_cases(preprocessed, plans, structures)
    if config.fold not in ("0", "all"):
        raise UsageError(f"Unknown fold {config.fold!r}.\n  allowed: 0 (hold some cases out), all (train on all cases)")
    require_loss_fits(config.settings, structures)
    require_new(config.out, resume=config.resume)
    block = plans["configurations"][CONFIGURATION]
    facts = {
        "dataset": preprocessed.name,
        "cases": len(structures.cases),
        "structures": list(structures.names),
        "patch_size": block["patch_size"],
        "batch_size": block["batch_size"],
    }
    if dry_run:
        return _cost(config, plans, preprocessed, facts)
    manifest = Manifest("pretrain", config.model_dump(mode="json"), config.settings.seed)
    manifest.add_inputs(_inputs(preprocessed, config))
    if config.resume:
        require_same_training(plans, staging_of(config.out))
    with several_processes(resolve_device(config.device)) as (processes, device), _run_folder(config) as staging:
        trainer = _trainer(config, plans, preprocessed, staging, device)
        notes = _notes(config, trainer)
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


def _cost(config: PretrainConfig, plans: dict[str, Any], preprocessed: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the training would cost, of the first of several processes."""
    with several_processes(resolve_device(config.device)) as (processes, device), TemporaryDirectory() as folder:
        processes.share_of(facts["batch_size"])
        trainer = _trainer(config, plans, preprocessed, Path(folder), device)
        facts |= {"notes": _notes(config, trainer), **pretraining_cost(trainer, preprocessed)}
        return {**facts, "steps": config.settings.steps, "out": str(config.out)} if processes.writes else {}


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


def _trainer(
    config: PretrainConfig, plans: dict[str, Any], preprocessed: Path, staging: Path, device: torch.device
) -> Any:
    from fsseg.nnunet.pretraining import make_trainer

    fold = staging / f"fold_{config.fold}"
    # A final checkpoint alone: the run was trained to its end, and then its folder could not be completed.
    found = [file for name in ("latest", "final") if (file := fold / f"checkpoint_{name}.pth").is_file()]
    return make_trainer(
        plans=plans,
        fold=config.fold if config.fold == "all" else int(config.fold),
        dataset_json=read_json(preprocessed / "dataset.json"),
        device=device,
        folder=staging,
        resume_from=found[0] if config.resume and found else None,
    )


def _last_validation(folder: Path) -> dict[str, float | None]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])["validation_dice"]
