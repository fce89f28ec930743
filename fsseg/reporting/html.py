"""A report as one HTML file that needs nothing else: style, scripts and pictures are in it.

Without scripts it shows the same, and its tables keep the order that they were written in.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from fsseg.reporting.tables import html_table
from fsseg.reporting.viewer import PAGE_LIMIT_MIB, Viewer, viewer_html


@dataclass(frozen=True)
class Table:
    """A table in a report: header and rows as for `html_table`, and an optional line of text above it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture in a report: a PNG file, the text below it, and the text for a reader who cannot see it."""

    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of a report: plain-text paragraphs, then commands to copy, tables, pictures and viewers."""

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    viewers: Sequence[Viewer] = ()
    commands: Sequence[str] = ()


def report_html(title: str, sections: Sequence[Section]) -> str:
    """Return a complete HTML page; all text is escaped, nothing is loaded from outside the page.

    The volumes of all viewers of the page together have `PAGE_LIMIT_MIB` at most.

    Raises:
        ValueError: a row of a table has another number of cells than its header.
    """
    viewers = sum(len(section.viewers) for section in sections)
    limit_mib = PAGE_LIMIT_MIB / max(1, viewers)
    body = "\n".join(_section_html(section, limit_mib) for section in sections)
    return _PAGE.substitute(
        title=escape(title), policy=_POLICY, style=_asset("page.css"), body=body, scripts=_scripts(sections)
    )


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write `report_html` to `path`, whose folder must exist; the file is complete or as it was before."""
    page = report_html(title, sections)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)


def _scripts(sections: Sequence[Section]) -> str:
    """Return the scripts that the parts of a page need."""
    scripts = [_asset("sort_tables.js")] if any(section.tables for section in sections) else []
    if any(section.viewers for section in sections):
        licence = f"/*\n{_asset('niivue_licence.txt')}*/\n"
        scripts += [licence + _asset("niivue.umd.js"), _asset("viewer.js")]
    return "\n".join(f"<script>\n{script}</script>" for script in scripts)


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _section_html(section: Section, limit_mib: float) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [f"<pre>{escape(command)}</pre>" for command in section.commands]
    parts += [_table_html(table) for table in section.tables]
    parts += [_picture_html(picture) for picture in section.pictures]
    parts += [viewer_html(viewer, limit_mib) for viewer in section.viewers]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table_html(table: Table) -> str:
    caption = f"<figcaption>{escape(table.caption)}</figcaption>\n" if table.caption else ""
    content = html_table(table.header, table.rows)
    return f'<figure class="table">\n{caption}<div class="scroll" tabindex="0">\n{content}\n</div>\n</figure>'


def _picture_html(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    image = f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}">'
    return f"<figure>\n{image}\n<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"


_ASSETS = Path(__file__).parent / "assets"

# The browser itself refuses to load anything from outside of the page.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<meta http-equiv="Content-Security-Policy" content="$policy">
<style>
$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
$scripts
</body>
</html>
""")
