"""Methods of others: registered by a call, or by the entry points of installed packages."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from fsseg.config.entry_points import run_entry_points
from fsseg.config.errors import UsageError, listed_errors
from fsseg.methods.builtin import METHODS, Entry

if TYPE_CHECKING:
    from fsseg.methods.contract import Method

ENTRY_POINTS = "fsseg.methods"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_registered: dict[str, Entry] = {}


def register_method(
    name: str,
    method_class: "type[Method]",
    *,
    summary: str = "",
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Add an adaptation method: `fsseg methods`, `fsseg adapt --method` and the Python API know it from then on.

    For commands, put the call into a function without arguments and name that in the package's pyproject.toml:
    `[project.entry-points."fsseg.methods"]`, `mine = "my_package.fsseg_plugin:register"`.

    Args:
        name: lower-case letters, digits and underscores. A class that is defined again, as in a notebook, may take the
            name of its earlier self.
        method_class: subclass of `fsseg.Method`, whose docstring describes the hooks.
        summary: what it is, in one line; the first line of the class's docstring if left out.
        presets: named settings of its options; preset p of method m is called "m:p".

    Raises:
        fsseg.config.errors.UsageError: the name is taken, or the class lacks something; all that is wrong is listed.

    Example:
        >>> class Norms(fsseg.Method):
        ...     '''Train the norms.'''
        ...     family = "selective"
        ...     def pretrained_to_train(self, network, trained_whole):
        ...         return (p for name, p in network.named_parameters() if "norm" in name)
        >>> fsseg.register_method("norms", Norms, summary="scales and shifts of the norms")
    """
    summary = summary or (method_class.__doc__ or "").strip().partition("\n")[0]
    problems = [*_name_problems(name, method_class), *_class_problems(method_class)]
    if not summary:
        problems.append("it has no summary: give one, or the class a docstring")
    if not problems:
        problems = list(_preset_problems(method_class, presets or {}))
    if problems:
        raise UsageError(listed_errors(problems, f"method {name!r}, which is to be registered"))
    merges = not method_class(method_class.Options()).not_merged_because
    _registered[name] = Entry(method_class, summary, dict(presets or {}), merges, method_class.decoder_choices)


def registered_methods() -> dict[str, Entry]:
    """Return the methods of others by name; the first call asks the installed packages."""
    run_entry_points(ENTRY_POINTS)
    return _registered


def _name_problems(name: str, kind: type) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield "its name may have lower-case letters, digits and underscores, and starts with a letter"
    if name in METHODS:
        yield "a method of fsseg has this name: choose another"
    elif name in _registered:
        other = _registered[name].method_class()
        if (other.__module__, other.__qualname__) != (kind.__module__, getattr(kind, "__qualname__", None)):
            yield f"{other.__module__}.{other.__qualname__} has this name: choose another"


def _class_problems(kind: Any) -> Iterator[str]:
    from fsseg.config.recipes import Family
    from fsseg.methods.contract import DecoderChoice, Method, MethodOptions

    if not (isinstance(kind, type) and issubclass(kind, Method)):
        yield f"it is {kind!r}, and no subclass of fsseg.Method"
        return
    family = getattr(kind, "family", None)
    if family not in get_args(Family):
        yield f"its family is {family!r}; allowed: {', '.join(get_args(Family))}"
    if not kind.decoder_choices or not set(kind.decoder_choices) <= set(get_args(DecoderChoice)):
        yield f"its decoder_choices are {kind.decoder_choices!r}; allowed: {', '.join(get_args(DecoderChoice))}"
    if kind.training_free and kind.fit_closed_form is Method.fit_closed_form:
        yield "it is training_free and has no fit_closed_form"
    if not (isinstance(kind.Options, type) and issubclass(kind.Options, MethodOptions)):
        yield f"its Options are {kind.Options!r}, and no subclass of fsseg.MethodOptions"
        return
    needed = [name for name, field in kind.Options.model_fields.items() if field.is_required()]
    if needed:
        yield f"its options {', '.join(needed)} have no default"


def _preset_problems(kind: "type[Method]", presets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    from fsseg.config.base import validated

    for preset, options in presets.items():
        if not _NAME.fullmatch(preset):
            yield f"preset {preset!r}: names have lower-case letters, digits and underscores"
        try:
            validated(kind.Options, dict(options), f"preset {preset!r}")
        except UsageError as error:
            yield str(error)
