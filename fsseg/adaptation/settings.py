"""Settings as people say them: a default method, recipes by name, options of the method among other keywords."""

import logging
from collections.abc import Mapping
from typing import Any

from fsseg.config.adaptation import RunRequest
from fsseg.config.errors import UsageError, listed_errors, nearest_name
from fsseg.config.published_recipes import named_recipe
from fsseg.config.recipes import DecoderChoice
from fsseg.methods.registry import DEFAULT_DECODER, DEFAULT_METHOD, method_class

log = logging.getLogger(__name__)

WHERE = "the arguments"


def chosen_method(method: str | None, decoder: DecoderChoice | None) -> tuple[str, DecoderChoice | None]:
    """Return method and decoder choice; where no method is named, the default is taken and said."""
    if method is not None:
        return method, decoder
    decoder = decoder or DEFAULT_DECODER
    log.info(
        "No method was given: %s with the decoder %s is taken. `fsseg methods` says when another is better.",
        DEFAULT_METHOD,
        decoder,
    )
    return DEFAULT_METHOD, decoder


def recipe_for(name: str, method: str, decoder: str | None, shots: int) -> dict[str, Any]:
    """Return the settings of a recipe for a method.

    Args:
        name: "default", "fseft", "arena" or "medagi".
        method: name of the method, with its preset.
        decoder: frozen or tuned; None is the method's default.
        shots: support cases, by which published recipes count their steps.

    Raises:
        UsageError: there is no such recipe or method.
    """
    kind = method_class(method)
    return named_recipe(
        name,
        family=kind.family,
        decoder=decoder or kind.decoder_choices[0],
        shots=max(shots, 1),  # what is wrong with fewer is said of the shots alone
        published_rate=kind.published_rate,
    )


def from_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an `RunRequest` from keywords, of which those that are none of its fields are options.

    Args:
        keywords: what a user said, "shots" and "method" among it; the latter may be None.

    Raises:
        UsageError: a keyword is a misspelt setting. One that is no option is refused with the options.
    """
    method, decoder = chosen_method(keywords["method"], keywords.get("decoder"))
    options = {name: value for name, value in keywords.items() if name not in RunRequest.model_fields}
    _require_meant(options, method)
    values = {name: value for name, value in keywords.items() if name not in options}
    cases, recipe = values.get("cases"), values.get("recipe", "default")
    if isinstance(recipe, str):
        recipe = recipe_for(recipe, method, decoder, len(set(cases)) if cases else values["shots"])
    own = values.get("method_options") or {}
    return {**values, "method": method, "decoder": decoder, "method_options": {**own, **options}, "recipe": recipe}


def _require_meant(options: Mapping[str, Any], method: str) -> None:
    settings, own = list(RunRequest.model_fields), list(method_class(method).Options.model_fields)
    nearest = {name: nearest_name(name, [*own, *settings]) for name in options if name not in own}
    if any(meant in settings for meant in nearest.values()):
        lines = [f"unknown key {name!r}; did you mean {meant!r}?" for name, meant in nearest.items() if meant]
        lines += [f"unknown key {name!r}" for name, meant in nearest.items() if not meant]
        raise UsageError(f"{listed_errors(lines, WHERE)}\n  allowed: {', '.join([*own, *settings])}")
