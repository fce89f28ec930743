"""List the adaptation methods, or describe one of them; with plans, what they would train on their network."""

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import Any

from fsseg.cli.options import add_output_options, emit
from fsseg.methods.registry import DEFAULT_DECODER, DEFAULT_METHOD

EXAMPLES = """examples:
  fsseg methods
  fsseg methods lora
  fsseg methods recipe
  fsseg methods --plans headneck_cpu
  fsseg methods lora --plans headneck_cpu --json
"""
RECIPE = "recipe"
_WIDEST = 100

WHERE_TO_START = """
Where to start: `lora` with `--decoder tuned`, which is taken where --method is left out. It is level with full
fine-tuning on structures that the base knows, merges into a stock model, and its adapter is small.
  - A known structure and one or two cases, or no time: `linear_probe`, minutes on a CPU. It learns no novel structure.
  - A novel structure unlike what the base was trained on, and time: compare with `full` and `from_scratch`.
  - A large network and little memory: `decoder` takes half of it; --set recipe.checkpoint_activations=true helps all.
`--estimate loo` says what DSC to expect of each, from the support cases alone. `fsseg methods NAME` describes a method
and its options, `fsseg methods recipe` those of the training.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", nargs="?", help=f"describe this method, or `{RECIPE}`, with all options")
    parser.add_argument(
        "--plans", help="nnU-Net plans, a file or a shipped name: count parameters on its network, for one structure"
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the methods, or describe one."""
    plans = None if arguments.plans is None else Path(arguments.plans)
    if arguments.name is None:
        return _list(plans, as_json=arguments.json)
    from fsseg.stages.describe_method import describe_method, describe_recipe

    is_recipe = arguments.name == RECIPE
    facts = describe_recipe() if is_recipe else describe_method(arguments.name, plans)
    emit(facts, _recipe_text(facts) if is_recipe else _method_text(facts), arguments.json)
    return 0


def _list(plans: Path | None, *, as_json: bool) -> int:
    from fsseg.reporting.tables import count, text_table
    from fsseg.stages.list_methods import list_methods

    rows = list_methods(plans)
    header = ["method", "merges", "decoder"]
    cells = [[row["name"], "yes" if row["mergeable"] else "no", " or ".join(row["decoder"])] for row in rows]
    if plans:
        header += ["trains", "head"]
        for cell, row in zip(cells, rows, strict=True):
            cell += [count(row["trainable"]), count(row["head"])] if row["defined"] else ["not defined", ""]
    header.append("what it is")
    for cell, row in zip(cells, rows, strict=True):
        cell.append(_description(row))
    notes = [f"{row['name']}: {note}" for row in rows for note in [*(row["notes"] or []), *_advice(row)]]
    emit(rows, "\n".join([text_table(header, cells), *notes, WHERE_TO_START.rstrip()]), as_json)
    return 0


def _method_text(facts: dict[str, Any]) -> str:
    choices = facts["decoder"]
    decoder = choices[0] if len(choices) == 1 else f"{' or '.join(choices)} (default: {choices[0]})"
    if facts["name"] == DEFAULT_METHOD:
        decoder += f"; {DEFAULT_DECODER} where --method is left out"
    rate = "no step is taken" if facts["learning_rate"] is None else f"learning rate {facts['learning_rate']:g}"
    lines = {
        "trains": f"{facts['trains']}; {rate}",
        "decoder": decoder,
        "merges": "yes" if facts["mergeable"] else f"no: {facts['not_merged_because']}",
        **{name: f"{_set_words(values)}" for name, values in facts["presets"].items()},
        **_network_lines(facts),
    }
    width = max(map(len, lines)) + 2
    return "\n".join(
        [
            f"{facts['name']}: {facts['summary']}",
            "",
            *(line for paragraph in facts["text"].split("\n\n") for line in [*_wrapped(paragraph), ""]),
            *(line for key, text in lines.items() for line in _wrapped(text, f"{key:<{width}}")),
            "",
            *_option_lines(facts, ""),
        ]
    )


def _network_lines(facts: dict[str, Any]) -> dict[str, str]:
    if facts["defined"] is None:
        return {}
    if not facts["defined"]:
        return {"on the plans": f"not defined: {' '.join(facts['reason'].split())}"}
    text = f"trains {facts['trainable']:,} parameters and a head of {facts['head']:,} (one structure)"
    return {"on the plans": " ".join([f"{text}.", *facts["notes"]])}


def _recipe_text(facts: dict[str, Any]) -> str:
    lines = [f"{facts['name']}: {facts['summary']}; --recipe fseft and arena are published ones", ""]
    return "\n".join([*lines, *_option_lines(facts, "recipe.")])


def _option_lines(facts: dict[str, Any], prefix: str) -> list[str]:
    if not facts["options"]:
        return ["It has no options."]
    lines = ["Options and their defaults, as they are written behind --set:"]
    for option in facts["options"]:
        lines.append(f"  {prefix}{option['name']}={option['default']}   ({option['takes']})")
        lines += _wrapped(option["meaning"], "      ")
    return lines


def _set_words(values: dict[str, Any]) -> str:
    from fsseg.config.described import as_yaml

    return " ".join(f"{name}={as_yaml(value)}" for name, value in values.items())


def _wrapped(text: str, start: str = "") -> list[str]:
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start)) or [start]


def _advice(row: dict) -> list[str]:
    """Return what to do where a method is not defined, which the table has no room for."""
    return [line.strip() for line in row["reason"].splitlines()[1:]] if row["defined"] is False else []


def _description(row: dict) -> str:
    if row["defined"] is False:
        return row["reason"].splitlines()[0]
    if row["options"]:
        return "preset: " + ", ".join(f"{name}={value}" for name, value in row["options"].items())
    return row["summary"]
