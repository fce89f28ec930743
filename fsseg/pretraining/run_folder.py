"""The run folder of a pretraining, which several processes share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsseg.config.run_folder import new_run_folder
from fsseg.config.staging import staging_of
from fsseg.training.processes import Processes


@contextmanager
def shared_run_folder(out: Path, *, resume: bool) -> Iterator[Path]:
    """Yield the staging folder: made, completed or removed by the first of the processes.

    Args:
        out: the final run folder.
        resume: continue in the staging folder of an unfinished run.

    Raises:
        UsageError, FssegError: as `new_run_folder`.
    """
    processes = Processes.current()
    if processes.writes:
        with new_run_folder(out, checkpoints="fold_*/checkpoint_*.pth", resume=resume) as staging:
            processes.wait()
            yield staging
            processes.wait()
    else:
        processes.wait()
        yield staging_of(out)
        processes.wait()
