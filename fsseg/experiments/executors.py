"""Where the runs of a table run: on this machine, or on a Slurm cluster."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from fsseg.config.machine import cores_allowed
from fsseg.experiments.gpus import gpus_for
from fsseg.experiments.local_executor import run_locally
from fsseg.experiments.open_table import TableConfig
from fsseg.experiments.slurm_executor import slurm_executor
from fsseg.experiments.submitted import Named, run_submitted

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
    if config.executor == "slurm":
        threads = config.threads or config.slurm.cpus
        folder = out / "slurm"
        executor = slurm_executor(folder, config.slurm, threads=threads, at_once=config.jobs)
        return run_submitted(work, jobs, executor, folder / "jobs.json")
    gpus = gpus_for(config.device)
    workers = config.jobs or max(1, len(gpus))
    threads = config.threads or (max(1, cores_allowed() // workers) if gpus else 1)
    return run_locally(work, jobs, workers=workers, threads=threads, gpus=gpus)
