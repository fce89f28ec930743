"""CSV files of results, whose texts no spreadsheet takes for formulas.

Names of cases and structures come from strangers, and a spreadsheet runs a cell that starts with "=" or the like. Such
a text is written with an apostrophe before it, which spreadsheets take as "text"; `read_csv` takes it off.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")  # apostrophes included, so that reading gives back what was written
_WRITTEN = re.compile(r"'+[=+\-@\t\r\n]")


def write_csv(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under a header; numbers stay as they are.

    Args:
        file: the CSV.
        columns: keys of every row, in order.
        rows: what to write.

    Raises:
        OSError: it could not be written.
    """
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def read_csv(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV that `write_csv` wrote, by column."""
    with file.open(newline="", encoding="utf-8") as text:
        return [{key: _text(value) for key, value in row.items()} for row in csv.DictReader(text)]


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _text(cell: str) -> str:
    return cell[1:] if isinstance(cell, str) and _WRITTEN.match(cell) else cell
