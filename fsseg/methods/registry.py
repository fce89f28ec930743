"""The adaptation methods by name: fsseg's own and those of others. Listing fsseg's own imports no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fsseg.config.errors import unknown_name
from fsseg.config.recipes import DecoderChoice
from fsseg.methods.builtin import METHODS, Entry
from fsseg.methods.registration import registered_methods

if TYPE_CHECKING:
    from fsseg.methods.contract import Method

# What is taken where nobody chooses: among the best on known and on novel structures, and it merges.
DEFAULT_METHOD = "lora"
DEFAULT_DECODER: DecoderChoice = "tuned"
_HINT = (
    "`fsseg methods` describes them. One of another package is known where the package is installed, or after"
    " fsseg.register_method."
)


def method_entries() -> dict[str, Entry]:
    """Return all methods by name, fsseg's own first."""
    return {**METHODS, **registered_methods()}


def method_names() -> list[str]:
    """Return the names of all methods, each followed by those of its presets."""
    entries = method_entries().items()
    return [name for method, entry in entries for name in (method, *(f"{method}:{p}" for p in entry.presets))]


def method_entry(name: str) -> Entry:
    """Return the entry of a method or preset; raise `UsageError` with the nearest name if there is none."""
    plain, _, preset = name.partition(":")
    entry = METHODS.get(plain) or method_entries().get(plain)
    if entry is None:
        raise unknown_name("method", name, method_entries(), _HINT)
    if name != plain and preset not in entry.presets:
        raise unknown_name("method", name, method_names(), _HINT)
    return entry


def create_method(name: str, options: Mapping[str, Any] | None = None) -> "Method":
    """Create a method by name.

    Args:
        name: one of `method_names()`.
        options: options of the method, which go before those of a preset; unknown keys and wrong values are refused
            all at once.

    Raises:
        UsageError: unknown method or preset (the nearest name is given) or wrong options.
    """
    from fsseg.config.base import validated

    method = method_class(name)
    values = {**preset_options(name), **(options or {})}
    return method(validated(method.Options, values, f"the options of method {name!r}"))


def method_class(name: str) -> "type[Method]":
    """Return the class of a method; raise `UsageError` with the nearest name if there is none."""
    return method_entry(name).method_class()


def preset_options(name: str) -> Mapping[str, Any]:
    """Return the options that a preset sets; none for a method's plain name."""
    preset = name.partition(":")[2]
    return method_entry(name).presets[preset] if preset else {}


def plain_name(method: "Method") -> str:
    """Return the name of a method without its preset; the name of its class if it is not registered."""
    kind = type(method)
    names = (name for name, entry in method_entries().items() if entry.is_implemented_by(kind))
    return next(names, kind.__name__)
