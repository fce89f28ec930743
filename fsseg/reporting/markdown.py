"""The text and tables of a report as Markdown; pictures are on the page only."""

from collections.abc import Sequence

from fsseg.reporting.html import Section
from fsseg.reporting.tables import markdown_table


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    """Return headings, paragraphs and tables of the sections that have such."""
    parts = [f"# {title}"]
    for section in sections:
        if section.paragraphs or section.tables:
            parts += [f"## {section.heading}", *section.paragraphs]
        for table in section.tables:
            parts += [*filter(None, [table.caption]), markdown_table(table.header, table.rows)]
    return "\n\n".join(parts) + "\n"
