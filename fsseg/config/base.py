"""Strict configuration models: unknown keys are errors, and all errors of a config are reported at once."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fsseg.config.bounded_text import MOST_YAML_MIB, parse_yaml, read_bounded
from fsseg.config.errors import FssegError, UsageError, listed_errors, nearest_name, shown

ModelT = TypeVar("ModelT", bound="StrictModel")
Precision = Literal["auto", "float32", "bfloat16"]  # in which a network is trained
Mirroring = Literal["auto", True, False]  # of a training: flips where no structure has a side, asked for, or none
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # torch takes no larger ones
_MOST_OF_PART = 100  # characters of a key
_NUMBERS: tuple[Any, ...] = (int, float, int | None, float | None)


class StrictModel(BaseModel):
    """Base of all configs: frozen, no unknown keys, no infinite or undefined numbers, defaults validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_numbers(cls, values: Any) -> Any:
        """Refuse true and false where a number belongs; pydantic takes them as 1 and 0."""
        numbers = {name for name, field in cls.model_fields.items() if field.annotation in _NUMBERS}
        if isinstance(values, dict):
            for name in numbers & values.keys():
                if isinstance(values[name], bool):
                    raise ValueError(f"{name} is a number, got {values[name]}")
        return values


class FileModel(StrictModel):
    """Base of models of nnU-Net's files: strict in what is read of them, while further keys are nnU-Net's business."""

    model_config = ConfigDict(extra="allow")
    unlike: ClassVar[str] = "damaged or of another form"  # what is said of a file that does not fit


def validated(model: type[ModelT], values: dict[str, Any], where: str, error: type[FssegError] = UsageError) -> ModelT:
    """Build `model` from plain values.

    Args:
        model: the config class.
        values: plain values as read from a file or from options.
        where: where the values come from (a file name, "options of method 'lora'"), for the message.
        error: what to raise.

    Raises:
        FssegError: `error`: any value is wrong; the message lists every problem with what was received.
    """
    try:
        return model.model_validate(values)
    except ValidationError as damage:
        items = damage.errors(include_url=False)
        where += f", which is {model.unlike}" if issubclass(model, FileModel) else ""
        raise error(listed_errors([_problem(model, item) for item in items], where)) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; raise `UsageError` if the file is missing, unreadable or no mapping."""
    if not path.is_file():
        raise UsageError(f"File not found: {path}\n  Give the path of an existing YAML file.")
    content = parse_yaml(read_bounded(path, MOST_YAML_MIB, "YAML", UsageError), str(path), UsageError)
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold a mapping of keys to values, got {type(content).__name__}.")
    return content


def _problem(model: type[StrictModel], item: Any) -> str:
    # pydantic marks a wrong key of a mapping by a part "[key]" behind it.
    location = ".".join(str(part)[:_MOST_OF_PART] for part in item["loc"] if part != "[key]") or "(whole)"
    if item["type"] == "extra_forbidden":
        allowed = _fields_at(model, item["loc"][:-1])
        listing = f" (allowed: {', '.join(allowed)})" if allowed else ""
        if not model.model_fields:
            listing = " (there is nothing to set)"
        return f"unknown key {location!r}{_advice(item['loc'][-1], allowed)}{listing}"
    of_file = issubclass(model, FileModel)
    if item["type"] == "missing":
        return f"it lacks {location}" if of_file else f"missing key {location!r}"
    if item["type"] == "value_error" and item["loc"] and of_file:
        return f"{location} {item['ctx']['error']}"
    if item["type"] == "value_error" and isinstance(item["input"], dict):  # values that do not go together
        return f"{location}: {item['ctx']['error']}" if item["loc"] else str(item["ctx"]["error"])
    message = f"{location}: {item['msg']}, got {shown(item['input'])}"
    if item["type"] == "literal_error":
        message += _advice(item["input"], re.findall(r"'([^']*)'", item["ctx"]["expected"]))
    return message


def _advice(received: Any, allowed: list[str]) -> str:
    nearest = nearest_name(str(received), allowed) if isinstance(received, str | int) else None
    return f"; did you mean {nearest!r}?" if nearest else ""


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys allowed at a place inside a config; none where it is not a config of its own."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
