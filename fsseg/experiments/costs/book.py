"""Costs that were measured, in a file beside the runs: the next dry run on this machine measures nothing again."""

import logging
from pathlib import Path
from typing import Any

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json
from fsseg.config.machine import cpu_model

log = logging.getLogger(__name__)

COSTS_NAME = "costs.json"


class CostBook:
    """The costs of one machine.

    Args:
        out: working folder of the tables.
        device: where the runs compute, such as "cpu".
        threads: of a run.
    """

    def __init__(self, out: Path, device: str, threads: int) -> None:
        self.file = out / COSTS_NAME
        self._machine = f"{cpu_model()}, {device}, {threads} thread(s)"

    def find(self, key: str) -> Any:
        """Return what was measured; None where nothing was on this machine."""
        return self._content().get(self._machine, {}).get(key, {}).get("cost")

    def add(self, key: str, name: str, cost: Any) -> None:
        """Keep what was measured, as plain values."""
        content = self._content()
        content.setdefault(self._machine, {})[key] = {"name": name, "cost": cost}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, content)

    def _content(self) -> dict[str, Any]:
        if not self.file.is_file():
            return {}
        try:
            return read_json(self.file)
        except FssegError as error:
            log.warning("%s Costs are measured again.", error)
            self.file.unlink()
            return {}
