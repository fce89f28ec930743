"""Options of method and recipe on the command line, the same wherever an adaptation is described."""

import argparse
from typing import TYPE_CHECKING, Any

from fsseg.cli.options import parse_set
from fsseg.methods.registry import DEFAULT_DECODER, DEFAULT_METHOD

if TYPE_CHECKING:
    from fsseg.methods.contract import Method

_RECIPE_PREFIX = "recipe."


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """Add --method, --decoder, --head, --recipe, --set and --seed."""
    parser.add_argument(
        "--method",
        help=f"adaptation method, see `fsseg methods` (default: {DEFAULT_METHOD} with a {DEFAULT_DECODER} decoder)",
    )
    parser.add_argument("--decoder", choices=("frozen", "tuned"), help="train the decoder too (default: the method's)")
    parser.add_argument(
        "--head",
        choices=("base", "new"),
        default="base",
        help="where head rows of structures that the base knows start: from its own, or new (default: base)",
    )
    parser.add_argument("--recipe", default="default", help="default (ours), fseft, arena or medagi (as published)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of method and recipe")
    parser.add_argument("--seed", type=int, default=0, help="decides draw, new weights and crops (default: 0)")


def method_settings(arguments: argparse.Namespace, shots: int) -> dict[str, Any]:
    """Return `method`, `method_options`, `decoder`, `head`, `recipe` and `seed`; a default method is said.

    Args:
        arguments: of `add_method_options`; method and decoder are filled in where there was no --method.
        shots: support cases, by which published recipes count their steps.
    """
    from fsseg.adaptation.settings import chosen_method, recipe_for
    from fsseg.methods.registry import method_class

    arguments.method, arguments.decoder = chosen_method(arguments.method, arguments.decoder)
    method = method_class(arguments.method)
    recipe = recipe_for(arguments.recipe, arguments.method, arguments.decoder, shots)
    settings = parse_set(arguments.set)
    _require_places(settings, method)
    recipe |= {k.removeprefix(_RECIPE_PREFIX): v for k, v in settings.items() if k.startswith(_RECIPE_PREFIX)}
    options = {key: value for key, value in settings.items() if not key.startswith(_RECIPE_PREFIX)}
    names = ("method", "decoder", "head", "seed")
    return {**{name: getattr(arguments, name) for name in names}, "method_options": options, "recipe": recipe}


def _require_places(settings: dict[str, Any], method: "type[Method]") -> None:
    """Raise `UsageError` where a setting of the recipe is not written as one."""
    from fsseg.config.errors import UsageError
    from fsseg.config.recipes import Recipe

    meant = {}
    for key, value in settings.items():
        inside = key.removeprefix(_RECIPE_PREFIX)
        field, _, entry = inside.partition(".")
        if key != inside and entry and field in Recipe.model_fields:
            meant[key] = f"'{_RECIPE_PREFIX}{field}={{{entry}: {value}}}'"
        elif key == inside and key not in method.Options.model_fields and key.rpartition(".")[2] in Recipe.model_fields:
            meant[key] = f"{_RECIPE_PREFIX}{key.rpartition('.')[2]}={value}"
    if meant:
        lines = [f"  - {key}: write --set {right}" for key, right in meant.items()]
        raise UsageError("\n".join(["Settings of the recipe are written recipe.KEY=VALUE.", *lines]))
