"""List the adaptation methods; with plans, what each would train on their network."""

import argparse
from pathlib import Path

from fsseg.cli.options import add_output_options, emit

EXAMPLES = """examples:
  fsseg methods
  fsseg methods --plans plans/headneck_cpu.json
  fsseg methods --plans plans/headneck_cpu.json --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--plans", help="nnU-Net plans file: count parameters on its network, for one structure")
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the methods."""
    from fsseg.reporting.tables import count, text_table
    from fsseg.stages.list_methods import list_methods

    rows = list_methods(None if arguments.plans is None else Path(arguments.plans))
    header = ["method", "merges", "decoder"]
    cells = [[row["name"], "yes" if row["mergeable"] else "no", " or ".join(row["decoder"])] for row in rows]
    if arguments.plans:
        header += ["trains", "head"]
        for cell, row in zip(cells, rows, strict=True):
            cell += [count(row["trainable"]), count(row["head"])] if row["defined"] else ["not defined", ""]
    header.append("what it is")
    for cell, row in zip(cells, rows, strict=True):
        cell.append(_description(row))
    notes = [f"{row['name']}: {note}" for row in rows for note in [*(row["notes"] or []), *_advice(row)]]
    emit(rows, "\n".join([text_table(header, cells), *notes]), arguments.json)
    return 0


def _advice(row: dict) -> list[str]:
    """Return what to do where a method is not defined, which the table has no room for."""
    return [line.strip() for line in row["reason"].splitlines()[1:]] if row["defined"] is False else []


def _description(row: dict) -> str:
    if row["defined"] is False:
        return row["reason"].splitlines()[0]
    if row["options"]:
        return "preset: " + ", ".join(f"{name}={value}" for name, value in row["options"].items())
    return row["summary"]
