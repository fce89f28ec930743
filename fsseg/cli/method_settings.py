"""Options of method and recipe on the command line, the same wherever an adaptation is described."""

import argparse
from typing import Any

from fsseg.cli.options import parse_set

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
        shots=shots,
    )
    settings = parse_set(arguments.set)
    recipe |= {k.removeprefix(_RECIPE_PREFIX): v for k, v in settings.items() if k.startswith(_RECIPE_PREFIX)}
    options = {key: value for key, value in settings.items() if not key.startswith(_RECIPE_PREFIX)}
    return {"method_options": options, "recipe": recipe}
