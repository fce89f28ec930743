"""Stage: train one universal encoder on a partially labelled dataset."""

import json
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
from fsseg.data.structures import STRUCTURES_NAME, load_structures, twins_of
from fsseg.nnunet.environment import dataset_folder, preprocessed_folder, structures_folder
from fsseg.stages.pretraining_cost import pretraining_cost
from fsseg.training.processes import Processes, several_processes
from fsseg.training.seeding import resolve_device

_MAY_CHANGE = ("workers", "checkpoint_minutes")  # what does not change the result


class PretrainConfig(StrictModel):
    """What to pretrain.

    Attributes:
        dataset: number or name of a preprocessed dataset.
        plans: name of its plans.
        out: run folder to make: an nnU-Net model folder.
        settings: steps, optimiser, sampling, seed.
        fold: 0 holds out a share of every source for validation, "all" trains on everything.
        device: auto, cpu, cuda or mps.
        resume: continue an unfinished run.
    """

    dataset: str
    plans: str
    out: Path
    settings: PretrainSettings
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
    plans = _read_plans(preprocessed, config)
    source = structures_folder(preprocessed)
    structures = load_structures(source)
    if config.fold not in ("0", "all"):
        raise UsageError(f"Unknown fold {config.fold!r}.\n  allowed: 0 (hold some cases out), all (train on all cases)")
    require_new(config.out, resume=config.resume)
    facts = {
        "dataset": preprocessed.name,
        "cases": len(structures.cases),
        "structures": list(structures.names),
        "patch_size": plans["configurations"]["3d_fullres"]["patch_size"],
        "batch_size": plans["configurations"]["3d_fullres"]["batch_size"],
    }
    if dry_run:
        with several_processes(resolve_device(config.device)) as (processes, device):
            processes.share_of(facts["batch_size"])
            with TemporaryDirectory() as folder:
                trainer = _trainer(config, plans, preprocessed, Path(folder), device)
                facts |= {"notes": _notes(trainer), **pretraining_cost(trainer, preprocessed)}
            return {**facts, "steps": config.settings.steps, "out": str(config.out)} if processes.writes else {}
    manifest = Manifest("pretrain", config.model_dump(mode="json"), config.settings.seed)
    known = [file for name in (STRUCTURES_NAME, "dataset.json") if (file := source / name).is_file()]
    manifest.add_inputs([preprocessed / f"{config.plans}.json", known[0]])
    if config.resume:
        _require_same_training(plans, staging_of(config.out) / "plans.json")
    with several_processes(resolve_device(config.device)) as (processes, device), _run_folder(config) as staging:
        trainer = _trainer(config, plans, preprocessed, staging, device)
        manifest.add(**facts, notes=_notes(trainer), processes=processes.count, held_out=trainer.do_split()[1])
        manifest.add(parameters=sum(p.numel() for p in trainer.network.parameters()))
        trainer.run_training()
        if not processes.writes:
            return {}
        manifest.add(validation_dice=_last_validation(staging))
        content = manifest.write(staging)
    return content


def _require_same_training(plans: dict[str, Any], unfinished: Path) -> None:
    """Raise `UsageError` if the plans of an unfinished run say another training."""
    if not unfinished.is_file():
        return
    before = read_json(unfinished)
    old, new = before[PLANS_KEY]["pretrain"], plans[PLANS_KEY]["pretrain"]
    keys = [key for key in new if old.get(key) != new[key] and key not in _MAY_CHANGE]
    lines = [f"  - {key}: {old.get(key)} before, {new[key]} now" for key in keys]
    if before["configurations"] != plans["configurations"]:
        lines.append("  - the configuration of the plans")
    if lines:
        raise UsageError(
            "--resume continues a training as it was begun, but these differ:\n" + "\n".join(lines) + "\n"
            "  Give the settings that it was begun with, or choose another --out."
        )


def _notes(trainer: Any) -> list[str]:
    """Say what a training takes for granted, and which cases take no part in it."""
    notes, structures = [], trainer.structures
    known = [(case.annotated, case.z_extent) for case in structures.cases.values()]
    if all(len(annotated) == len(structures.names) and not extents for annotated, extents in known):
        notes.append("Every structure counts as annotated in every case: what is not labelled is background.")
    left_out = sorted(twins_of(trainer.do_split()[1], structures.twins))
    if left_out:
        notes.append(f"Not trained on, because they are the same image as a held-out case: {', '.join(left_out)}.")
    return notes


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
    from fsseg.nnunet.planning import read_plans_file

    plans = read_plans_file(file)
    plans[PLANS_KEY] = {"pretrain": config.settings.model_dump(mode="json")}
    return plans


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
