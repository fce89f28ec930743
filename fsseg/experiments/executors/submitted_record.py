"""Which jobs are submitted, in a file, so that a table that was killed finds them again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json

_UNKNOWN = "UNKNOWN"


class Record:
    """The file.

    Args:
        file: where it lies.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ids: dict[str, Any] = {}
        if file.is_file():
            try:
                self._ids = read_json(file)
            except FssegError:  # it spares work, and decides nothing
                self._ids = {}

    def ticket(self, name: str, executor: Any) -> Any | None:
        """Return the submitit job of a name if it still waits or runs.

        Args:
            name: of the job.
            executor: of submitit, in whose folder its files lie.
        """
        if name not in self._ids:
            return None
        ticket = executor.job_class(folder=executor.folder, job_id=str(self._ids[name]))
        return None if ticket.done(force_check=True) or ticket.state == _UNKNOWN else ticket

    def keep(self, ids: Mapping[str, str]) -> None:
        """Write name -> job id of all that are submitted."""
        if self._ids != dict(ids):
            self._ids = dict(ids)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, self._ids)

    def forget(self) -> None:
        """Delete the file: no job is left."""
        self._file.unlink(missing_ok=True)
