"""Costs of kinds: from the file of earlier measurements, or measured now."""

from collections.abc import Sequence

from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.experiments.costs.bases import SampleBase
from fsseg.experiments.costs.book import CostBook
from fsseg.experiments.costs.cases import ImageSize
from fsseg.experiments.costs.handling import handling_seconds
from fsseg.experiments.costs.kinds import Kind, handling_key
from fsseg.experiments.costs.measure import KindCost, measured_kind
from fsseg.experiments.open_table import OpenTable
from fsseg.training.seeding import resolve_device


class CostLookup:
    """The costs of a table on this machine.

    Args:
        opened: the table.
        threads: of a run.
    """

    def __init__(self, opened: OpenTable, threads: int) -> None:
        self.device = resolve_device(opened.config.device)
        self._threads = threads
        self._book = CostBook(opened.place.out, str(self.device), threads)

    def of_kinds(self, kinds: Sequence[Kind]) -> list[KindCost | str]:
        """Return the cost of every kind, or why it is not known."""
        found: dict[str, KindCost | str] = {}
        missing = {kind.key: kind for kind in kinds if kind.unfinished and self._known(kind.key) is None}
        with Progress("measure costs", len(missing), "kind") as progress:
            for kind in progress.over(missing.values()):
                found[kind.key] = self.find(kind.key, kind.name, kind.base, kind.sample.settings)
        return [found.get(kind.key) or self._known(kind.key) or "" for kind in kinds]

    def find(self, key: str, name: str, base: SampleBase | None, settings: AdaptationSettings) -> KindCost | str:
        """Return the cost of a kind, or why it is not known."""
        if base is None:
            return f"{name}: only its checkpoint says what its network is, unless the table gives the `family`."
        if (known := self._known(key)) is not None:
            return known
        try:
            cost = measured_kind(base, settings, self.device, self._threads)
        except FssegError as error:
            return f"{name}: {str(error).splitlines()[0]}"
        self._book.add(key, name, cost.as_dict())
        return cost

    def handling(self, base: SampleBase, structures: Sequence[str], size: ImageSize) -> float:
        """Return the seconds of a prediction beside the network; 0 where an image is too large to measure them."""
        key = handling_key(base, len(structures), size.size_xyz, size.spacing_mm)
        known = self._book.find(key)
        if isinstance(known, float | int):
            return float(known)
        try:
            seconds = handling_seconds(base.model(structures), size, self._threads)
        except FssegError:
            seconds = 0.0
        self._book.add(key, f"reading and writing {' x '.join(map(str, size.size_xyz))}", seconds)
        return seconds

    def _known(self, key: str) -> KindCost | None:
        found = self._book.find(key)
        return None if found is None else KindCost.of(found)
