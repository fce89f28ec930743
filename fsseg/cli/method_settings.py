"""Options of method and recipe on the command line, the same wherever an adaptation is described."""

import argparse
from typing import TYPE_CHECKING, Any

from fsseg.cli.options import parse_set

if TYPE_CHECKING:
    from fsseg.methods.contract import Method

HEAD_HELP = "where head rows of structures that the base knows start: from its own, or new (default: base)"
_RECIPE_PREFIX = "recipe."


def method_settings(arguments: argparse.Namespace, shots: int) -> dict[str, Any]:
    """Return `method_options` and `recipe` from --recipe and --set.

    Args:
        arguments: with method, decoder, recipe and set.
        shots: support cases, by which published recipes count their steps.
    """
    from fsseg.config.recipes import named_recipe
    from fsseg.methods.registry import method_class

    method = method_class(arguments.method)
    recipe = named_recipe(
        arguments.recipe,
        method=arguments.method.partition(":")[0],
        family=method.family,
        decoder=arguments.decoder or method.decoder_choices[0],
        shots=max(shots, 1),  # what is wrong with fewer is said of --shots alone
    )
    settings = parse_set(arguments.set)
    _require_places(settings, method)
    recipe |= {k.removeprefix(_RECIPE_PREFIX): v for k, v in settings.items() if k.startswith(_RECIPE_PREFIX)}
    options = {key: value for key, value in settings.items() if not key.startswith(_RECIPE_PREFIX)}
    return {"method_options": options, "recipe": recipe}


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
