"""A report as one HTML file that needs nothing else: style inline, pictures embedded, no scripts."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from fsseg.reporting.tables import html_table


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
    """A part of a report: plain-text paragraphs, then tables, then pictures."""

    heading: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def report_html(title: str, sections: Sequence[Section]) -> str:
    """Return a complete HTML page; all text is escaped, nothing is loaded from outside the page.

    Raises:
        ValueError: a row of a table has another number of cells than its header.
    """
    body = "\n".join(_section_html(section) for section in sections)
    return _PAGE.substitute(title=escape(title), style=_STYLE, body=body)


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write `report_html` to `path`, whose folder must exist; the file is complete or as it was before."""
    page = report_html(title, sections)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)


def _section_html(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [_table_html(table) for table in section.tables]
    parts += [_picture_html(picture) for picture in section.pictures]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table_html(table: Table) -> str:
    caption = f"<figcaption>{escape(table.caption)}</figcaption>\n" if table.caption else ""
    content = html_table(table.header, table.rows)
    return f'<figure class="table">\n{caption}<div class="scroll">\n{content}\n</div>\n</figure>'


def _picture_html(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    image = f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}">'
    return f"<figure>\n{image}\n<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"


_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")

_STYLE = """\
:root {
  color-scheme: light dark;
  --text: #1c1e21; --muted: #5c636b; --page: #ffffff; --stripe: #f4f6f8; --line: #d5dae0; --accent: #0b5c8f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e4e6e9; --muted: #a2a9b1; --page: #16181b; --stripe: #1f2327; --line: #3a4047; --accent: #7fc1ee;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1.5rem; }
h2 { font-size: 1.25rem; color: var(--accent); border-bottom: 1px solid var(--line); margin: 2.5rem 0 1rem; }
p { max-width: 75ch; margin: 0 0 0.9rem; white-space: pre-line; overflow-wrap: break-word; }
figure { margin: 1.25rem 0; }
figcaption { color: var(--muted); font-size: 0.9rem; margin: 0.4rem 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.85rem; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid var(--line); }
td { border-bottom: 1px solid var(--line); }
tbody tr:nth-child(even) { background: var(--stripe); }
.number { text-align: right; white-space: nowrap; }
@media print {
  :root {
    --text: #000000; --muted: #444444; --page: #ffffff; --stripe: #f4f6f8; --line: #bbbbbb; --accent: #000000;
  }
  body { font-size: 10.5pt; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  figure:not(.table), tr { break-inside: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
}
"""
