"""The settings of one cell: which words a table may use, and the adaptation that they mean."""

from collections.abc import Collection, Mapping
from typing import Any

from fsseg.config.adaptation import DEFAULT_SHOTS, AdaptationSettings
from fsseg.config.base import validated
from fsseg.config.errors import FssegError, UsageError, nearest_name
from fsseg.config.published_recipes import named_recipe
from fsseg.experiments.definition.sources import Base
from fsseg.experiments.definition.targets import Target
from fsseg.methods.registry import DEFAULT_METHOD, create_method, method_class

BASE, METHOD, SEED, SHOTS, RECIPE, CASES = "base", "method", "seed", "shots", "recipe", "cases"
TRANSDUCTIVE = "transductive"  # whether images of the test cases take part in the training
ZERO_SHOT = "zero_shot"  # in place of a method: the base as it is
RECIPES, OPTIONS, PRETRAIN = "recipe.", "options.", "pretrain."
ALL_CASES = "all"
_PLAIN = (METHOD, "decoder", "head", SEED)
_SETTINGS = (BASE, *_PLAIN, SHOTS, CASES, RECIPE, TRANSDUCTIVE)
_PREFIXES = (RECIPES, OPTIONS, PRETRAIN)


def setting_problems(bases: Mapping[str, Base], target: Target, values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings of a cell."""
    problems = [_unknown_text(key) for key in values if not _is_setting(key)]
    problems += _base_problems(bases, target, values)
    if not isinstance(values.get(TRANSDUCTIVE, False), bool):
        problems.append(f"{TRANSDUCTIVE} is true or false, got {values[TRANSDUCTIVE]!r}")
    try:
        if (method := str(values.get(METHOD, DEFAULT_METHOD))) != ZERO_SHOT:
            create_method(method, below(OPTIONS, values))
        if not problems:
            cell_settings(target, values)
    except FssegError as error:
        problems.append(str(error))
    return problems


def _base_problems(bases: Mapping[str, Base], target: Target, values: Mapping[str, Any]) -> list[str]:
    name = values.get(BASE, next(iter(bases)))
    if name not in bases:
        return [f"base {name!r} is none of the table's: {', '.join(bases)}{_near(name, bases)}"]
    changes, pretrained = below(PRETRAIN, values), bases[name].pretrained
    if pretrained is None:
        unknown = [f"the test cases are held out, but base {name!r} is imported"] if target.test.held_out else []
        return unknown + [f"pretrain.{key} says how base {name!r} is pretrained, but it is imported" for key in changes]
    try:
        pretrained.changed(changes).all_settings(f"the pretraining of base {name!r}")
    except FssegError as error:
        return [str(error)]
    return []


def cell_settings(target: Target, values: Mapping[str, Any]) -> tuple[AdaptationSettings, tuple[str, ...] | None]:
    """Return the settings of the adaptation, and its support cases; None where they are drawn."""
    settings: dict[str, Any] = {METHOD: DEFAULT_METHOD, **{name: values[name] for name in _PLAIN if name in values}}
    settings["structures"] = target.structures
    if settings[METHOD] == ZERO_SHOT:
        return validated(AdaptationSettings, {**settings, SEED: 0}, "the settings of a cell"), None
    cases = _support(target, values)
    settings[SHOTS] = len(cases) if cases else _shots(target, values)
    settings["method_options"] = below(OPTIONS, values)
    settings[RECIPE] = _recipe(settings, values)
    return validated(AdaptationSettings, settings, "the settings of a cell"), cases


def below(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings whose names start with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _support(target: Target, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    if values.get(CASES) is not None:
        return target.named(values[CASES])
    listed = target.support.get(values.get(SEED, 0))
    if listed is None:
        return None
    shots = len(listed) if values.get(SHOTS) == ALL_CASES else _shots(target, values)
    if shots > len(listed):
        raise UsageError(f"{shots} shots, but the support of seed {values.get(SEED, 0)} names {len(listed)} cases")
    return target.named(listed[:shots])


def _shots(target: Target, values: Mapping[str, Any]) -> int:
    """Return the number of support cases: a number, a share such as "10%", or all."""
    shots = values.get(SHOTS, DEFAULT_SHOTS)
    if isinstance(shots, int):
        return shots
    share = 100.0 if shots == ALL_CASES else _percent(shots)
    number = target.pool.number if target.pool else None
    if number is None:
        raise UsageError(f"shots: {shots} needs a pool of a known number: give the pool first, last or names")
    return max(1, round(share / 100 * number))


def _percent(shots: Any) -> float:
    try:
        share = float(str(shots).removesuffix("%"))
    except ValueError:
        share = 0.0
    if not str(shots).endswith("%") or not 0 < share <= 100:
        raise UsageError(f"shots takes a number, a share such as 10%, or {ALL_CASES}; got {shots!r}")
    return share


def _recipe(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    method = method_class(settings[METHOD])
    named = named_recipe(
        values.get(RECIPE, "default"),
        family=method.family,
        decoder=settings.get("decoder") or method.decoder_choices[0],
        shots=settings[SHOTS],
        published_rate=method.published_rate,
    )
    return {**named, **below(RECIPES, values)}


def _is_setting(key: str) -> bool:
    return key in _SETTINGS or (key.startswith(_PREFIXES) and not key.endswith("."))


def _unknown_text(key: str) -> str:
    advice = _near(key, _SETTINGS) or f"; a method's option is written options.{key}"
    return f"unknown setting {key!r}{advice} (allowed: {', '.join(_SETTINGS)}, recipe.KEY, options.KEY, pretrain.KEY)"


def _near(key: str, known: Collection[str]) -> str:
    near = nearest_name(key, known)
    return f"; did you mean {near!r}?" if near else ""
