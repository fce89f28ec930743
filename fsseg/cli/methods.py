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
        cell.append(row["summary"] if row["defined"] is not False else row["reason"])
    emit(rows, text_table(header, cells), arguments.json)
    return 0
