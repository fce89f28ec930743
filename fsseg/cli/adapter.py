"""Look at adapter files, and merge them into stock nnU-Net models."""

import argparse
from typing import TYPE_CHECKING

from fsseg.cli.options import add_output_options, emit
from fsseg.cli.parser import add_action

if TYPE_CHECKING:
    from fsseg.stages.adapter_show import AdapterShowResult

_SHOW = """  fsseg adapter show runs/larynx/adapter.safetensors
  fsseg adapter show runs/larynx/adapter.safetensors --json
"""
_MERGE = """  fsseg adapter merge runs/larynx/adapter.safetensors --base runs/universal --out runs/larynx_merged
  fsseg adapter merge runs/larynx/adapter.safetensors --base runs/universal --scale 0.7 --out runs/larynx_70

--scale takes weights between the base (0) and the adapted network (1): all that the adaptation changed, a tuned decoder
and the head rows of known structures included; head rows of novel structures stay as adapted.
"""
EXAMPLES = f"examples:\n{_SHOW}{_MERGE}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|merge")
    show = add_action(actions, "show", "method, ranks, base, structures, support cases, training", _SHOW)
    show.add_argument("file", help="adapter.safetensors of a run")
    add_output_options(show)
    merge = add_action(actions, "merge", "write a model folder that nnUNetv2_predict runs without fsseg", _MERGE)
    merge.add_argument("file", help="adapter.safetensors of a run")
    merge.add_argument("--base", required=True, help="model folder that the adapter was trained on")
    merge.add_argument("--out", required=True, help="model folder to make")
    merge.add_argument("--scale", type=float, default=1.0, help="0: the base, 1: the adapted network (default)")
    add_output_options(merge)


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    return _show(arguments) if arguments.action == "show" else _merge(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from fsseg.config.base import validated
    from fsseg.stages.adapter_show import AdapterShowConfig, run_adapter_show

    result = run_adapter_show(validated(AdapterShowConfig, {"adapter": arguments.file}, "the options"))
    emit(result.as_json(), _text(result), arguments.json)
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from fsseg.config.base import validated
    from fsseg.stages.adapter_merge import AdapterMergeConfig, run_adapter_merge

    values = {"adapter": arguments.file, "base": arguments.base, "out": arguments.out, "scale": arguments.scale}
    result = run_adapter_merge(validated(AdapterMergeConfig, values, "the options"))
    text = f"merged {result.method} of {', '.join(result.structures)} at scale {result.scale}: {arguments.out}"
    emit(result.manifest, text, arguments.json)
    return 0


def _text(result: "AdapterShowResult") -> str:
    from fsseg.reporting.tables import text_table

    info = result.info
    started = info.structures.items()
    starts = [f"{name} ({'new head row' if row is None else f'head row {row} of the base'})" for name, row in started]
    options = ", ".join(f"{name}={value}" for name, value in info.options.items())
    rows = [
        ["method", f"{info.method}, decoder {info.decoder}"],
        ["options", options or "none"],
        ["structures", ", ".join(starts)],
        ["support cases", ", ".join(info.support)],
        *([["seen without labels", ", ".join(info.transductive)]] if info.transductive else []),
        ["base", info.base_sha256],
        ["licence of the base", info.base_licence],
        ["size", f"{result.parameters:,} values in {result.tensors} tensors, {result.bytes:,} bytes"],
        *([name, str(value)] for name, value in info.training.items()),
        *([f"expected DSC of {name}", f"{value:.3f}"] for name, value in (info.estimate or {}).items()),
    ]
    tables = [text_table(["adapter", ""], rows)]
    if info.ranks:
        tables.append(text_table(["layer", "rank"], [[name, str(rank)] for name, rank in info.ranks.items()]))
    return "\n\n".join(tables)
