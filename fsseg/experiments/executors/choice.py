"""Where the runs of a table run: on this machine, or on a Slurm cluster."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from fsseg.config.machine import cores_allowed
from fsseg.experiments.executors.gpus import gpus_for
from fsseg.experiments.executors.local import run_locally
from fsseg.experiments.executors.slurm import MOST_AT_ONCE, slurm_executor
from fsseg.experiments.executors.submitted import Named, run_submitted
from fsseg.experiments.open_table import TableConfig

JobT = TypeVar("JobT", bound=Named)


def run_jobs(
    work: Callable[[JobT], str], jobs: Sequence[JobT], config: TableConfig, out: Path
) -> Generator[tuple[JobT, str], None, None]:
    """Run jobs where the user wants them and yield each when it has ended, with what `work` returned.

    Args:
        work: a function of a module, called with a job; returns "" or why it failed.
        jobs: what to run, in this order.
        config: of the table.
        out: its working folder.

    Raises:
        UsageError: there is no Slurm here, or submitit is not installed.
        FssegError: the cluster takes no jobs.
    """
    workers, threads = at_once(config)
    if config.executor == "slurm":
        folder = out / "slurm"
        executor = slurm_executor(folder, config.slurm, threads=threads, at_once=workers)
        return run_submitted(work, jobs, executor, folder / "jobs.json", at_once=workers)
    return run_locally(work, jobs, workers=workers, threads=threads, gpus=gpus_for(config.device))


def at_once(config: TableConfig) -> tuple[int, int]:
    """Return how many runs go at a time, and the threads of each."""
    if config.executor == "slurm":
        return config.jobs or MOST_AT_ONCE, config.threads or config.slurm.cpus
    gpus = gpus_for(config.device)
    workers = config.jobs or max(1, len(gpus))
    return workers, config.threads or (max(1, cores_allowed() // workers) if gpus else 1)
