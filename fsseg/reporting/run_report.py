"""What the reports of all runs have in common."""

from collections.abc import Mapping, Sequence

from fsseg.reporting.anonymous import without_folders
from fsseg.reporting.html import Section, Table

REPORT_NAME = "report.html"


def facts_table(facts: Mapping[str, str]) -> Table:
    """Return facts of a run, one a line."""
    return Table(["what", "value"], [[name, without_folders(value)] for name, value in facts.items()])


def notes_section(notes: Sequence[str]) -> list[Section]:
    """Return a part with the notes of a run, without folders of the machine; none where there are no notes."""
    return [Section("Notes", [without_folders(note) for note in notes])] if notes else []
