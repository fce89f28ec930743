"""Tables as plain text, Markdown and HTML from one header and rows, and the number formats of their cells."""

import html
import math
import re
from collections.abc import Sequence

MISSING = "–"


class Bold(str):
    """The text of a cell that stands out, such as a score that is ahead by more than chance."""


_NUMBER = re.compile(r"[\[(]?[-+−±≤≥<>]?\d[\d.,]*(e[-+]?\d+)?(?=$|[\s%±–/\])])", re.IGNORECASE)
_NO_VALUE = {"", "-", MISSING, "nan", "n/a"}


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table for a terminal: columns of numbers to the right, a rule under the header.

    Args:
        header: one name per column.
        rows: one sequence of cells per row, each as long as the header.

    Raises:
        ValueError: a row has another number of cells than the header.
    """
    numeric = numeric_columns(header, rows)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["─" * width for width in widths]
    return "\n".join(
        "  ".join(_aligned(*cell) for cell in zip(line, widths, numeric, strict=True)).rstrip()
        for line in (header, rule, *rows)
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, columns of numbers to the right; arguments and errors as `text_table`."""
    rule = ["---:" if is_numeric else "---" for is_numeric in numeric_columns(header, rows)]
    escaped = [[_markdown_cell(cell) for cell in line] for line in (header, *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (escaped[0], rule, *escaped[1:]))


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a `<table>` with all text escaped; cells of columns of numbers carry the class `number`.

    The cells that tell rows apart carry the class `name`: of the columns of text the one with most different cells.
    Arguments and errors as `text_table`.
    """
    classes = ["number" if is_numeric else "" for is_numeric in numeric_columns(header, rows)]
    texts = [column for column, name in enumerate(classes) if not name]
    if texts:
        classes[max(texts, key=lambda column: len({row[column] for row in rows}))] = "name"
    body = "\n".join(_html_row("td", row, classes) for row in rows)
    return f"<table>\n<thead>\n{_html_row('th', header, classes)}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def mean_sd(mean: float, sd: float, decimals: int = 2) -> str:
    """Return "0.83 ± 0.04"; only the mean where `sd` is nan (one value); "–" where `mean` is nan."""
    if math.isnan(mean):
        return MISSING
    if math.isnan(sd):
        return f"{mean:.{decimals}f}"
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def count(number: int) -> str:
    """Return a whole number with thousands separators: "1,234,567"."""
    return f"{number:,}"


def seconds(duration_s: float) -> str:
    """Return a duration in its two largest units: "4.2 s", "48 s", "3 min 12 s", "2 h 5 min"; "–" for nan."""
    if math.isnan(duration_s):
        return MISSING
    if duration_s < 9.95:
        return f"{duration_s:.1f} s"
    whole_s = round(duration_s)
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60} s"
    whole_min = round(duration_s / 60)
    return f"{whole_min // 60} h {whole_min % 60} min"


def numeric_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header has {len(header)}: {list(row)}")
    return [_is_numeric([row[column] for row in rows]) for column in range(len(header))]


def _is_numeric(cells: Sequence[str]) -> bool:
    values = [cell for cell in cells if cell.strip().lower() not in _NO_VALUE]
    return bool(values) and all(_NUMBER.match(cell.strip()) for cell in values)


def _aligned(cell: str, width: int, is_numeric: bool) -> str:
    return cell.rjust(width) if is_numeric else cell.ljust(width)


def _markdown_cell(cell: str) -> str:
    text = cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return f"**{text}**" if isinstance(cell, Bold) else text


def _html_row(tag: str, cells: Sequence[str], classes: Sequence[str]) -> str:
    attributes = [f' class="{name}"' if name else "" for name in classes]
    content = "".join(
        f"<{tag}{attribute}>{_html_cell(cell)}</{tag}>" for cell, attribute in zip(cells, attributes, strict=True)
    )
    return f"<tr>{content}</tr>"


def _html_cell(cell: str) -> str:
    text = html.escape(cell)
    return f"<b>{text}</b>" if isinstance(cell, Bold) else text
