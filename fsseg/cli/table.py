"""Make a table: run what is missing of a grid of adaptations, and write its page after every run."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.options import add_device_option, add_output_options, emit
from fsseg.cli.shipped import ListShipped
from fsseg.cli.table_cost_text import table_cost_lines
from fsseg.config.shipped_files import TABLES, find_file

if TYPE_CHECKING:
    from fsseg.experiments.table import TablePlan, TableResult

EXAMPLES = """examples:
  fsseg table phantom --out tables --jobs 2
  fsseg table head-neck --root DATA --out tables --dry-run
  fsseg table head-neck --root DATA --executor slurm --slurm partition=gpu gpus=1 time=4:00:00 mem=32G
  fsseg table my_table.yaml --root DATA --out tables --where method=lora shots=5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("table", metavar="TABLE", help="name of a shipped table, or a table file")
    parser.add_argument("--list", action=ListShipped, shipped=TABLES, help="list the shipped tables by name, and stop")
    parser.add_argument("--root", type=Path, help="folder with the data and checkpoints that the table names")
    parser.add_argument("--out", type=Path, default=Path("tables"), help="working folder (default: tables)")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: 1, with several GPUs one on each)")
    parser.add_argument("--threads", type=int, help="threads of a run (default: 1; beside GPUs a share of the cores)")
    parser.add_argument(
        "--executor", choices=("local", "slurm"), default="local", help="this machine, or a cluster (default: local)"
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="what each run asks of Slurm: partition, account, qos, constraint, time, mem, gpus, cpus",
    )
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
    parser.add_argument(
        "--anonymous", action="store_true", help="call the cases case_001, ... on the page and in its CSVs"
    )
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.experiments.open_table import TableConfig
    from fsseg.experiments.table import plan_table, run_table

    names = ("root", "out", "jobs", "threads", "executor", "only", "anonymous", "device")
    values = {name: getattr(arguments, name) for name in names}
    values |= {"table": find_file(arguments.table, TABLES), "where": _where(arguments.where)}
    values["slurm"] = _slurm(arguments.slurm)
    config = validated(TableConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_table(config)
        emit(asdict(plan), _plan_text(plan, arguments), arguments.json)
        return 0
    result = run_table(config, _command(arguments))
    emit(asdict(result), _text(result), arguments.json)
    return 1 if result.failures or result.missing else 0


def _command(arguments: argparse.Namespace) -> str:
    """Return the command as the page shows it: without the folders of this machine."""
    shown = ["--anonymous"] if arguments.anonymous else []
    for option in ("where", "only"):
        chosen = getattr(arguments, option)
        shown += [f"--{option}", *chosen] if chosen else []
    root = ["--root", "DATA"] if arguments.root else []
    return shlex.join(["fsseg", "table", Path(arguments.table).stem, *root, "--out", "OUT", *shown])


def _where(words: list[str]) -> dict[str, list[str]]:
    chosen: dict[str, list[str]] = {}
    for axis, label in _pairs("--where", words, "method=lora shots=5"):
        chosen.setdefault(axis, []).append(label)
    return chosen


def _slurm(words: list[str]) -> dict[str, str]:
    from fsseg.config.errors import UsageError

    values: dict[str, str] = {}
    for key, value in _pairs("--slurm", words, "partition=gpu time=4:00:00"):
        if key in values:
            raise UsageError(f"--slurm names {key!r} twice.")
        values[key] = value
    return values


def _pairs(option: str, words: list[str], example: str) -> list[tuple[str, str]]:
    from fsseg.config.errors import UsageError

    split = [word.partition("=") for word in words]
    for key, separator, value in split:
        if not (key and separator and value):
            raise UsageError(
                f"{option} takes words like {example.split()[0]}, got {key + separator + value!r}.\n"
                f"  Write for example {option} {example}"
            )
    return [(key, value) for key, _, value in split]


def _plan_text(plan: "TablePlan", arguments: argparse.Namespace) -> str:
    lines = [f"{plan.cells} cells, {plan.runs} runs, {plan.done} of them finished"]
    lines += [f"would make the base {name}" for name in plan.bases]
    lines += [*_missing(plan.missing), *table_cost_lines(plan.cost)]
    return "\n".join([*lines, f"would go into {arguments.out}"])


def _missing(lines: Sequence[str]) -> list[str]:
    return [f"missing: {line}" for line in lines]


def _text(result: "TableResult") -> str:
    lines = [f"{result.done} of {result.cells} cells are finished, {result.ran} runs were made now", str(result.page)]
    return "\n".join([*(f"failed: {message}" for message in result.failures), *_missing(result.missing), *lines])
