"""List the adaptation methods, or describe one of them; with plans, what they would train on their network."""

import argparse
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsseg.cli.options import add_output_options, emit
from fsseg.methods.registry import DEFAULT_DECODER, DEFAULT_METHOD

if TYPE_CHECKING:
    from fsseg.config.described import DescribedField
    from fsseg.methods.description import MethodDescription, MethodLine, OnNetwork

EXAMPLES = """examples:
  fsseg methods
  fsseg methods lora
  fsseg methods recipe
  fsseg methods --plans headneck_cpu
  fsseg methods lora --plans headneck_cpu --json
"""
RECIPE = "recipe"
_RECIPE_SUMMARY = "how an adaptation is trained, whatever the method"
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
    if arguments.name == RECIPE:
        return _describe_recipe(as_json=arguments.json)
    from fsseg.stages.methods import run_method

    description = run_method(arguments.name, plans)
    emit(description.as_json(), _method_text(description), arguments.json)
    return 0


def _describe_recipe(*, as_json: bool) -> int:
    from fsseg.config.described import described_fields
    from fsseg.config.recipes import Recipe

    fields = described_fields(Recipe)
    lines = [f"{RECIPE}: {_RECIPE_SUMMARY}; --recipe fseft and arena are published ones", ""]
    facts = {"name": RECIPE, "summary": _RECIPE_SUMMARY, "options": [asdict(field) for field in fields]}
    emit(facts, "\n".join([*lines, *_option_lines(fields, "recipe.")]), as_json)
    return 0


def _list(plans: Path | None, *, as_json: bool) -> int:
    from fsseg.reporting.tables import count, text_table
    from fsseg.stages.methods import run_methods

    rows = run_methods(plans)
    header = ["method", "merges", "decoder"]
    cells = [[row.name, "yes" if row.mergeable else "no", " or ".join(row.decoder)] for row in rows]
    if plans:
        header += ["trains", "head"]
        for cell, row in zip(cells, rows, strict=True):
            found = row.on_network
            cell += [count(found.trainable or 0), count(found.head or 0)] if found.defined else ["not defined", ""]
    header.append("what it is")
    for cell, row in zip(cells, rows, strict=True):
        cell.append(_description(row))
    notes = [f"{row.name}: {note}" for row in rows for note in [*(row.on_network.notes or []), *_advice(row)]]
    emit(
        [row.as_json() for row in rows],
        "\n".join([text_table(header, cells), *notes, WHERE_TO_START.rstrip()]),
        as_json,
    )
    return 0


def _method_text(method: "MethodDescription") -> str:
    lines = {
        "trains": f"{method.trains}; {_rate_words(method)}",
        "decoder": _decoder_words(method),
        "merges": "yes" if method.mergeable else f"no: {method.not_merged_because}",
        **{name: _set_words(values) for name, values in method.presets.items()},
        **_network_lines(method.on_network),
    }
    width = max(map(len, lines)) + 2
    return "\n".join(
        [
            f"{method.name}: {method.summary}",
            "",
            *(line for paragraph in method.text.split("\n\n") for line in [*_wrapped(paragraph), ""]),
            *(line for key, text in lines.items() for line in _wrapped(text, f"{key:<{width}}")),
            "",
            *_option_lines(method.options, ""),
        ]
    )


def _rate_words(method: "MethodDescription") -> str:
    return "no step is taken" if method.learning_rate is None else f"learning rate {method.learning_rate:g}"


def _decoder_words(method: "MethodDescription") -> str:
    choices = method.decoder
    words = choices[0] if len(choices) == 1 else f"{' or '.join(choices)} (default: {choices[0]})"
    return f"{words}; {DEFAULT_DECODER} where --method is left out" if method.name == DEFAULT_METHOD else words


def _network_lines(found: "OnNetwork") -> dict[str, str]:
    if found.defined is None:
        return {}
    if not found.defined:
        return {"on the plans": f"not defined: {' '.join((found.reason or '').split())}"}
    text = f"trains {found.trainable:,} parameters and a head of {found.head:,} (one structure)"
    return {"on the plans": " ".join([f"{text}.", *(found.notes or [])])}


def _option_lines(options: "list[DescribedField]", prefix: str) -> list[str]:
    if not options:
        return ["It has no options."]
    lines = ["Options and their defaults, as they are written behind --set:"]
    for option in options:
        lines.append(f"  {prefix}{option.name}={option.default}   ({option.takes})")
        lines += _wrapped(option.meaning, "      ")
    return lines


def _set_words(values: Mapping[str, Any]) -> str:
    from fsseg.config.described import as_yaml

    return " ".join(f"{name}={as_yaml(value)}" for name, value in values.items())


def _wrapped(text: str, start: str = "") -> list[str]:
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start)) or [start]


def _advice(row: "MethodLine") -> list[str]:
    """Return what to do where a method is not defined, which the table has no room for."""
    found = row.on_network
    return [line.strip() for line in (found.reason or "").splitlines()[1:]] if found.defined is False else []


def _description(row: "MethodLine") -> str:
    if row.on_network.defined is False:
        return (row.on_network.reason or "").splitlines()[0]
    if row.options:
        return "preset: " + ", ".join(f"{name}={value}" for name, value in row.options.items())
    return row.summary
