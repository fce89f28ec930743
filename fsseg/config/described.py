"""What the fields of a config take, for people: type, allowed values, default and meaning."""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "none"}
_BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}


@dataclass(frozen=True)
class DescribedField:
    """A field of a config.

    Attributes:
        name: its key.
        takes: type and allowed values.
        default: as it is written on a command line; None where it must be given.
        meaning: what is said beside the field.
    """

    name: str
    takes: str
    default: str | None
    meaning: str


def described_fields(model: type[BaseModel]) -> list[DescribedField]:
    """Describe the fields of a config, those of its base classes first."""
    return [
        DescribedField(
            name,
            _takes(field),
            None if field.is_required() else as_yaml(field.get_default(call_default_factory=True)),
            _meaning(model, name),
        )
        for name, field in model.model_fields.items()
    ]


def as_yaml(value: Any) -> str:
    """Return a value as it is written behind --set KEY=."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_yaml(each)}" for key, each in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _meaning(model: type[BaseModel], name: str) -> str:
    """Return what is said of a field, by its class or by the next base class that says something."""
    fields = (base.model_fields.get(name) for base in model.__mro__ if issubclass(base, BaseModel))
    return next((" ".join(field.description.split()) for field in fields if field and field.description), "")


def _takes(field: FieldInfo) -> str:
    text = _type_text(field.annotation)
    return " ".join([text, *_bounds(field.metadata)])


def _bounds(metadata: Any) -> list[str]:
    return [
        form.format(f"{value:g}")
        for name, form in _BOUNDS.items()
        for constraint in metadata
        if (value := getattr(constraint, name, None)) is not None
    ]


def _type_text(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is Annotated:
        return " ".join([_type_text(parts[0]), *_bounds(parts[1:])])
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_text(part) for part in parts)
    if origin is dict:
        return f"mapping of ({_type_text(parts[0])}) to ({_type_text(parts[1])})"
    return getattr(annotation, "__name__", str(annotation))
