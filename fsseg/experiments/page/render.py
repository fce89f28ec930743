"""Write the page of a table: its tables after every run, its pictures at the end and now and then before."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsseg.experiments.definition.grid import Cell
from fsseg.experiments.missing import Missing
from fsseg.experiments.open_table import OpenTable
from fsseg.experiments.page.cases import case_sections
from fsseg.experiments.page.charts import chart_pictures
from fsseg.experiments.page.page import Page
from fsseg.experiments.results import NATIVE, Finished, Row, finished, rows_of
from fsseg.experiments.workspace import RunFolder
from fsseg.nnunet.raw_dataset import read_raw_dataset
from fsseg.reporting.anonymous import anonymous_names
from fsseg.reporting.html import Section
from fsseg.reporting.safe_sections import section_or_reason, sections_or_reason

Failures = dict[RunFolder, str]
_SECONDS_BETWEEN_PICTURES = 600.0


@dataclass
class Rendering:
    """What writes the page.

    Attributes:
        opened: the table.
        command: what makes it, for the page.
        missing: what cells lack.
    """

    opened: OpenTable
    command: str
    missing: Missing
    _pictures: Sequence[Section] = ()
    _drawn_at: float = field(default_factory=time.monotonic)

    @property
    def file(self) -> Path:
        """The HTML page."""
        return self.opened.folder / "table.html"

    def write(self, failures: Failures, *, last: bool = False) -> None:
        """Write the page with what is finished by now; the last time with new pictures.

        Args:
            failures: run -> its message, of the runs of this command.
            last: nothing is running any more.

        Raises:
            OSError: it cannot be written, such as for lack of space.
        """
        opened, columns = self.opened, self.opened.columns()
        states = {index: state for index, cell in enumerate(opened.cells) if (state := self._state(cell, failures))}
        rows = rows_of(opened.cells, states, columns, opened.table.baselines)
        known = {choice.title: opened.known(choice) for choice in opened.bases}
        page = Page(opened.table, self.command, columns, rows, known, self._names(rows), self._words())
        if last or time.monotonic() - self._drawn_at > _SECONDS_BETWEEN_PICTURES:
            self._pictures = self._drawn(page)
            self._drawn_at = time.monotonic()
        page.write(opened.folder, self._pictures)

    def _state(self, cell: Cell, failures: Failures) -> Finished | str | None:
        run = self.opened.run(cell)
        if run.is_done:
            return finished(cell, run)
        if lacking := self.missing.stops(self.opened, cell):
            return f"Missing: {'; '.join(lacking)}"
        if run not in failures and run.failure.is_file():  # of an earlier command
            return run.failure.read_text(encoding="utf-8").strip()
        return failures.get(run)

    def _drawn(self, page: Page) -> list[Section]:
        charts = section_or_reason("Charts", lambda: Section("Charts", pictures=chart_pictures(page.tables)))
        return [charts, *sections_or_reason("Cases", lambda: case_sections(self.opened, page.rows, page.names))]

    def _names(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Return case -> what the page calls it."""
        cases = {line.case for row in rows for run in row.runs for line in run.rows[NATIVE]}
        return anonymous_names(cases) if self.opened.config.anonymous else {case: case for case in sorted(cases)}

    def _words(self) -> Mapping[str, str]:
        """Return what messages may hold and the page may not -> what it says instead: folders, and hidden cases."""
        opened, place = self.opened, self.opened.place
        words = {str(place.root): "DATA", str(place.out): "OUT"}
        if opened.config.anonymous:
            made = [
                folder for name in opened.datasets if (folder := place.dataset(opened.table.datasets[name])).is_dir()
            ]
            words |= {case: "a case" for folder in made for case in read_raw_dataset(folder).cases}
        return words
