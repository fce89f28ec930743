"""Datasets and bases of a table are made before its runs: here, or as a job of the cluster that the runs go to."""

from collections.abc import Sequence
from dataclasses import dataclass

from fsseg.config.errors import FssegError
from fsseg.experiments.bases import Preparation
from fsseg.experiments.definition.grid import BaseChoice
from fsseg.experiments.executors.choice import run_jobs
from fsseg.experiments.open_table import OpenTable
from fsseg.nnunet.environment import nnunet_folders


@dataclass(frozen=True)
class PreparationJob:
    """What a process needs to make them."""

    preparation: Preparation
    bases: Sequence[BaseChoice]
    datasets: Sequence[str]
    name: str = "preparation"


def prepare(opened: OpenTable) -> None:
    """Make what is missing of datasets and bases, where the runs will run.

    Raises:
        UsageError: a spec or plans are missing.
        FssegError: data or a checkpoint cannot be used, or a job that makes a base died.
    """
    job = PreparationJob(opened.preparation, opened.bases, opened.datasets)
    if opened.config.executor == "slurm" and not _is_made(opened):
        for _, failure in run_jobs(make, [job], opened.config, opened.place.out):
            if failure:
                raise FssegError(failure)
    _make(job)


def make(job: PreparationJob) -> str:
    """Make them; return "" or why it failed."""
    try:
        _make(job)
    except FssegError as error:
        return str(error)
    return ""


def _make(job: PreparationJob) -> None:
    place = job.preparation.place
    with nnunet_folders(raw=place.raw, preprocessed=place.preprocessed):
        job.preparation.make(job.bases, job.datasets)


def _is_made(opened: OpenTable) -> bool:
    datasets = (opened.place.dataset(opened.table.datasets[name]) for name in opened.datasets)
    return all(folder.is_dir() for folder in (*datasets, *map(opened.base, opened.bases)))
