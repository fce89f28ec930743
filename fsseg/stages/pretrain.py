"""Stage: train one universal encoder on a partially labelled dataset."""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fsseg.config.manifest import Manifest
from fsseg.config.pretraining_request import PretrainRequest
from fsseg.config.run_folder import require_new
from fsseg.config.staging import staging_of
from fsseg.pretraining.cost import memory_warnings, pretraining_cost
from fsseg.pretraining.job import PretrainJob, make_job
from fsseg.pretraining.job_trainer import make_job_trainer
from fsseg.pretraining.plan import PretrainPlan, make_plan
from fsseg.pretraining.result import PretrainResult, write_result
from fsseg.pretraining.resume import require_same_training
from fsseg.pretraining.run_folder import shared_run_folder
from fsseg.training.placement import require_precision
from fsseg.training.processes import several_processes
from fsseg.training.seeding import resolve_device

logger = logging.getLogger(__name__)


class PretrainConfig(PretrainRequest):
    """What to pretrain, and where.

    Attributes:
        out: run folder to make: an nnU-Net model folder.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: continue an unfinished run.
    """

    out: Path
    device: str = "auto"
    resume: bool = False


def plan_pretrain(config: PretrainConfig) -> PretrainPlan | None:
    """Return what a pretraining would do, and cost by two steps that are measured; nothing is written.

    Of several processes the first returns the plan and the others nothing.

    Raises:
        UsageError, FssegError: as `run_pretrain`.
    """
    job = _checked(config)
    with several_processes(resolve_device(config.device)) as (processes, device), TemporaryDirectory() as folder:
        processes.share_of(job.batch_size)
        trainer = make_job_trainer(job, Path(folder), device)
        plan = make_plan(job, trainer)
        cost = pretraining_cost(trainer, job.preprocessed)
        return replace(plan, cost=cost) if processes.writes else None


def run_pretrain(config: PretrainConfig) -> PretrainResult | None:
    """Pretrain; the run folder is complete or absent, and an unfinished run can be resumed.

    Of several processes the first returns the result and the others nothing.

    Example:
        >>> settings = PretrainSettings(steps=250_000)
        >>> config = PretrainConfig(dataset="901", plans="nnUNetPlans", settings=settings, out=Path("runs/universal"))
        >>> run_pretrain(config).validation_dice
        {'liver': 0.93, 'spleen': 0.91}

    Raises:
        UsageError: unknown dataset or plans, a base that does not fit, or the output folder exists.
        FssegError: a structure that no case shows, damaged data or checkpoint, no space left.
    """
    job = _checked(config)
    manifest = Manifest("pretrain", config.model_dump(mode="json"), config.settings.seed)
    manifest.add_inputs(job.input_files())
    if config.resume:
        require_same_training(job.plans, staging_of(config.out))
    with (
        several_processes(resolve_device(config.device)) as (processes, device),
        shared_run_folder(config.out, resume=config.resume) as staging,
    ):
        trainer = make_job_trainer(job, staging, device, resume=config.resume)
        plan = make_plan(job, trainer)
        warnings = [*plan.notes, *memory_warnings(trainer)]
        if processes.writes and warnings:  # before the training, which may last for days
            logger.warning("\n".join(warnings))
        trainer.run_training()
        return write_result(plan, trainer, manifest, staging, config.out) if processes.writes else None


def _checked(config: PretrainConfig) -> PretrainJob:
    require_precision(resolve_device(config.device), config.settings.precision)
    require_new(config.out, resume=config.resume)
    return make_job(config)
