"""The CSV of metrics, one row a case and structure: written complete or not at all, with its manifest beside it."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from fsseg.config.csv_file import read_csv, write_csv
from fsseg.config.errors import UsageError
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.config.staging import clear_staging, locked_staging
from fsseg.evaluation.aggregation import CaseRow

_TEXTS = ("case", "structure", "status")  # columns; the others are numbers


def manifest_path(out: Path) -> Path:
    """Return where the manifest of a metrics CSV lies."""
    return out.with_name(f"{out.stem}.manifest.json")


def require_new_csv(out: Path) -> None:
    """Raise `UsageError` if a CSV exists, or is not called one."""
    if os.path.lexists(out):
        raise UsageError(
            f"Output exists already: {out}\n  Results are never overwritten. Choose another --out, or delete the file."
        )
    if out.suffix != ".csv":
        raise UsageError(f"--out must be a file ending in .csv, got {out}")


@contextmanager
def new_csv(out: Path) -> Iterator[Path]:
    """Yield a folder for the CSV and manifest.json; both move to their place when the block ends without an error.

    The CSV moves last, so it is never without manifest.
    """
    with locked_staging(out) as staging:
        clear_staging(staging)  # left by a killed evaluation
        try:
            yield staging
            require_new_csv(out)  # somebody may have just written it
            os.replace(staging / MANIFEST_NAME, manifest_path(out))
            os.replace(staging / out.name, out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def write_case_rows(file: Path, rows: Sequence[CaseRow]) -> None:
    """Write the rows under the names of their fields."""
    write_csv(file, [column.name for column in fields(CaseRow)], [asdict(row) for row in rows])


def read_case_rows(file: Path) -> list[CaseRow]:
    """Return the rows of a metrics CSV."""
    return [_row(row) for row in read_csv(file)]


def _row(row: Mapping[str, str]) -> CaseRow:
    numbers = {column.name: float(row[column.name]) for column in fields(CaseRow) if column.name not in _TEXTS}
    return CaseRow(case=row["case"], structure=row["structure"], status=row["status"], **numbers)
