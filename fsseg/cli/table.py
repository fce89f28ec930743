"""Make a table: run what is missing of a grid of adaptations, and write its page after every run."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.options import add_device_option, add_output_options, emit
from fsseg.cli.shipped import ListShipped
from fsseg.config.shipped_files import TABLES, find_file

if TYPE_CHECKING:
    from fsseg.experiments.table import TablePlan, TableResult

EXAMPLES = """examples:
  fsseg table phantom --out tables --jobs 2
  fsseg table head-neck --root DATA --out tables --dry-run
  fsseg table my_table.yaml --root DATA --out tables --where method=lora shots=5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("table", metavar="TABLE", help="name of a shipped table, or a table file")
    parser.add_argument("--list", action=ListShipped, shipped=TABLES, help="list the shipped tables by name, and stop")
    parser.add_argument("--root", type=Path, help="folder with the data and checkpoints that the table names")
    parser.add_argument("--out", type=Path, default=Path("tables"), help="working folder (default: tables)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (default: 1)")
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="AXIS=LABEL",
        help="only cells with these labels; several of one axis are alternatives",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="only what these targets or structures need"
    )
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.experiments.open_table import TableConfig
    from fsseg.experiments.table import plan_table, run_table

    names = ("root", "out", "jobs", "only", "device")
    values = {name: getattr(arguments, name) for name in names}
    values |= {"table": find_file(arguments.table, TABLES), "where": _where(arguments.where)}
    config = validated(TableConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_table(config)
        emit(asdict(plan), _plan_text(plan, arguments), arguments.json)
        return 0
    result = run_table(config, shlex.join(["fsseg", *sys.argv[1:]]))
    emit(asdict(result), _text(result), arguments.json)
    return 1 if result.failures or result.missing else 0


def _where(words: list[str]) -> dict[str, list[str]]:
    from fsseg.config.errors import UsageError

    chosen: dict[str, list[str]] = {}
    for word in words:
        axis, separator, label = word.partition("=")
        if not separator:
            raise UsageError(
                f"--where takes AXIS=LABEL, got {word!r}.\n  Write for example --where method=lora shots=5"
            )
        chosen.setdefault(axis, []).append(label)
    return chosen


def _plan_text(plan: "TablePlan", arguments: argparse.Namespace) -> str:
    lines = [f"{plan.cells} cells, {plan.runs} runs, {plan.done} of them finished"]
    lines += [f"would make the base {name}" for name in plan.bases]
    return "\n".join([*lines, *_missing(plan.missing), f"would go into {arguments.out}"])


def _missing(lines: Sequence[str]) -> list[str]:
    return [f"missing: {line}" for line in lines]


def _text(result: "TableResult") -> str:
    lines = [f"{result.done} of {result.cells} cells are finished, {result.ran} runs were made now", str(result.page)]
    return "\n".join([*(f"failed: {message}" for message in result.failures), *_missing(result.missing), *lines])
