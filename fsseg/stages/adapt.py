"""Stage: fit a pretrained network to known or novel structures from a few labelled cases."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from fsseg.adaptation.base_gaps import left_random
from fsseg.adaptation.cost import adaptation_cost, memory_warnings
from fsseg.adaptation.estimate import FoldScores, leave_one_out
from fsseg.adaptation.job import Job, build_adapted, make_target, require_classes, require_rate
from fsseg.adaptation.notes import notes_of, urgent_notes
from fsseg.adaptation.run_files import adapter_info, training_facts, write_losses
from fsseg.adaptation.support import Support, quick_support, read_support
from fsseg.adaptation.support_cases import negative_notes
from fsseg.adaptation.support_check import silent_notes
from fsseg.adaptation.training import train
from fsseg.checkpoints.base_channels import require_same_channels
from fsseg.config.adaptation import AdaptationRequest
from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.config.staging import clear_staging
from fsseg.data.intensity_scale import scale_notes
from fsseg.data.splits import Split, make_split, read_case_lists
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork, require_decoder_choice
from fsseg.methods.adapter_file import save_adapter
from fsseg.methods.registry import create_method
from fsseg.nnunet.environment import dataset_folder, preprocessed_folder, raw_folder
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset
from fsseg.nnunet.stored_orientation import orientation_notes
from fsseg.training.fit_checkpoint import FitCheckpoint, fingerprint_of
from fsseg.training.placement import require_precision
from fsseg.training.seeding import resolve_device

log = logging.getLogger(__name__)

CACHE_NAME = "fsseg_cache"
TRAINING_NAME = "training.pt"  # the state of a training that has not ended
FOLDS_NAME = "training_estimate.json"  # the folds of a leave-one-out that has not ended
_UNFINISHED = "training*"  # both


class AdaptConfig(AdaptationRequest):
    """What to adapt, and where to.

    Attributes:
        out: run folder to make.
        estimate: "loo" also runs leave-one-out over the support cases.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    out: Path
    estimate: Literal["loo"] | None = None
    device: str = "auto"


def run_adapt(
    config: AdaptConfig, *, dry_run: bool = False, announce: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Adapt; the run folder is complete or absent. An adaptation that was stopped goes on with the same command.

    The folder holds adapter.safetensors, split.json, metrics.jsonl, manifest.json and, for methods that merge, the
    files of a stock nnU-Net model folder.

    Args:
        config: what to adapt.
        dry_run: check everything and return what it would cost; nothing is written.
        announce: is told what will be trained on what, before it is, with the notes that are not logged as warnings.

    Raises:
        UsageError: unknown structure, case, method or option; more shots than pool cases; the output folder exists.
        FssegError: a support case that cannot be learned from, damaged files, no space left.
    """
    job, dataset, split = _job(config)
    flips = job.flips  # refused, where the recipe cannot have them, before an image is read
    manifest = Manifest("adapt", config.model_dump(mode="json"), config.seed)
    preprocessor = CasePreprocessor(job.base, preprocessed_folder() / CACHE_NAME, adds=not dry_run)
    read = quick_support if dry_run else read_support
    support = read(dataset, job.target, split.support, preprocessor)
    volumes = support.volumes
    orientation = orientation_notes(job.base, {case: dataset.images(case)[0] for case in split.support})
    adapted = build_adapted(job, volumes)
    urgent = [*scale_notes(preprocessor.off_scale), *urgent_notes(job.base, adapted)]
    notes = [
        *orientation,
        *dataset.unlabelled_notes(),
        *negative_notes(support.labels, job.target),
        *notes_of(job, adapted),
    ]
    facts = {
        **_facts(config, job, adapted, split),
        "mirroring_axes": list(flips.axes),
        "licence": dataset.dataset_json.get("licence", "unknown"),
        "notes": [*urgent, *notes],
    }
    if dry_run:
        return {**facts, **_cost(config, job, adapted, split, support)}
    for note in [*urgent, *memory_warnings(job, adapted, volumes)]:
        log.warning("%s", note)
    if announce is not None:
        announce({**facts, "notes": notes})
    inputs = [path for case in split.support for path in (*dataset.images(case), dataset.label(case))]
    manifest.add_hashes({str(path): preprocessor.sha256(path) for path in inputs})
    manifest.add(**facts)
    with new_run_folder(config.out, checkpoints=_UNFINISHED, resume=True) as staging:
        return _fill(staging, config, job, adapted, volumes, split, manifest)


def _job(config: AdaptConfig) -> tuple[Job, RawDataset, Split]:
    """Return what to adapt, to which dataset and cases; raise `UsageError` for what does not go together."""
    method = create_method(config.method, config.method_options)
    decoder = require_decoder_choice(method, config.decoder)
    device = resolve_device(config.device)
    require_rate(config.recipe, method)
    require_precision(device, config.recipe.precision)
    require_new_or_unfinished(config.out)
    base = ModelFolder.read(config.checkpoint)
    dataset = read_raw_dataset(dataset_folder(raw_folder(), config.dataset))
    require_known(
        "structure", config.structures, dataset.structures.names, f"{dataset.path.name} annotates the allowed ones."
    )
    require_same_channels(base, dataset)
    target = make_target(
        base,
        dataset.dataset_json,
        dataset.structures,
        config.structures,
        head=config.head,
        uses_pretrained=method.uses_pretrained,
    )
    split = _split(config, dataset)
    if config.recipe.activation == "softmax":
        require_classes(target, split.support)
    if config.estimate == "loo" and len(split.support) < 2:
        raise UsageError("--estimate loo holds out one support case at a time, so it needs at least 2 shots, got 1.")
    return Job(base, target, method, decoder, config.recipe, config.seed, device), dataset, split


def _facts(config: AdaptConfig, job: Job, adapted: AdaptedNetwork, split: Split) -> dict[str, Any]:
    """Return what is trained on what, as plain JSON values."""
    known = job.base.head_rows() if job.method.uses_pretrained else {}
    return {
        "method": config.method,
        "decoder": job.decoder,
        "base": job.base.provenance(),
        "structures": {name: "known" if name in known else "novel" for name in job.target.names},
        "parameters": adapted.report().as_dict(),
        "support": list(split.support),
    }


def _cost(config: AdaptConfig, job: Job, adapted: AdaptedNetwork, split: Split, support: Support) -> dict[str, Any]:
    """Return what a dry run says besides: the most steps, where the result would be, and what it would cost."""
    cost = adaptation_cost(
        job,
        adapted,
        support.volumes,
        len(split.support),
        estimated=config.estimate == "loo",
        preprocessing_seconds=support.preprocessing_seconds,
    )
    most = 0 if job.method.training_free else config.recipe.for_cases(len(split.support)).max_steps
    return {"max_steps": most, "out": str(config.out), **cost}


def _fill(
    staging: Path,
    config: AdaptConfig,
    job: Job,
    adapted: AdaptedNetwork,
    volumes: Sequence[Volume],
    split: Split,
    manifest: Manifest,
) -> dict[str, Any]:
    """Train, or go on with a training that was stopped, and write the run folder; return the manifest's content."""
    clear_staging(staging, keep=_UNFINISHED)
    checkpoint = FitCheckpoint(staging / TRAINING_NAME, _fingerprint(config, job, volumes))
    folds = FoldScores(staging / FOLDS_NAME, checkpoint.fingerprint)
    estimate = leave_one_out(job, volumes, folds) if config.estimate == "loo" else None
    result = train(job, adapted, volumes, label=f"adapt {config.method}", checkpoint=checkpoint)
    silent = silent_notes(job, adapted, volumes)
    for note in silent:
        log.warning("%s", note)
    split.save(staging)
    _write_estimate(staging, estimate)
    write_losses(staging, result)
    info = adapter_info(config.method, job, adapted, split.support, result, estimate)
    save_adapter(staging, adapted.compact_state(), info)
    merges = not job.method.not_merged_because
    if merges:
        _write_merged(staging, job, adapted, split.support)
    manifest.add(**training_facts(result), ranks=job.method.ranks(adapted.network), merged=merges)
    manifest.add(feature_cache=result.feature_cache, estimate=estimate, silent=silent)
    manifest.add_seconds(result.earlier_seconds + folds.earlier_seconds)
    checkpoint.remove()
    folds.remove()
    return manifest.write(staging)


def require_new_or_unfinished(out: Path) -> None:
    """Raise `UsageError` if `out` exists; an unfinished folder of a killed run is no obstacle."""
    require_new(out, resume=True)


def _fingerprint(config: AdaptConfig, job: Job, volumes: Sequence[Volume]) -> str:
    decides = config.model_dump(mode="json", exclude={"out", "pool", "test", "estimate", "checkpoint"})
    return fingerprint_of({**decides, **job.decides()}, volumes)


def _split(config: AdaptConfig, dataset: RawDataset) -> Split:
    lists = read_case_lists(config.pool, config.test)
    duplicates = dataset.structures.duplicates
    return make_split(
        dataset.cases, shots=config.shots, seed=config.seed, support=config.cases, duplicates=duplicates, **lists
    )


def _write_estimate(folder: Path, estimate: dict[str, Any] | None) -> None:
    if estimate is not None:
        write_json(folder / "estimate.json", estimate)


def _write_merged(folder: Path, job: Job, adapted: AdaptedNetwork, support: Sequence[str]) -> None:
    model = job.model(support, left_random(job.base, adapted))
    replace(model, plans=model.stock_plans, weights=adapted.merged_state_dict()).write(folder)
