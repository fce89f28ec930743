"""submitit's executor for a Slurm cluster."""

from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.config.errors import UsageError
from fsseg.experiments.executors.slurm_settings import SlurmSettings

if TYPE_CHECKING:
    import submitit

MOST_AT_ONCE = 256  # if the user does not say


def slurm_executor(folder: Path, settings: SlurmSettings, *, threads: int, at_once: int) -> "submitit.Executor":
    """Return the executor.

    Args:
        folder: for scripts and logs, on a disk that all nodes see.
        settings: what each run asks for.
        threads: of a run.
        at_once: how many jobs may run at a time.

    Raises:
        UsageError: submitit is not installed, or this is no machine of a cluster.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError(
            "--executor slurm needs the package submitit, which is not installed.\n  Type: pip install 'fsseg[slurm]'"
        ) from None
    try:
        executor = submitit.SlurmExecutor(folder)
    except RuntimeError:
        raise UsageError(
            "There is no Slurm here: the command srun is not found.\n"
            "  Give the command on a machine of the cluster, or without --executor."
        ) from None
    executor.update_parameters(**settings.parameters(threads, at_once))
    return executor
