"""What the stages return: typed in Python, and the same as plain values in JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

JsonObject: TypeAlias = dict[str, Any]  # as `--json` prints it and JSON files hold it


@dataclass(frozen=True)
class Result:
    """Base of what a stage finds: a frozen dataclass whose fields are the keys of its JSON."""

    def as_json(self) -> JsonObject:
        """Return the fields as `--json` prints them and manifests keep them."""
        return plain(self)


@dataclass(frozen=True)
class WrittenResult(Result):
    """Base of what a stage has written, with the manifest that lies beside it.

    Attributes:
        manifest: content of manifest.json, which says what it was made from; `--json` prints it.
    """

    manifest: JsonObject = field(kw_only=True)


def plain(value: object) -> Any:
    """Return a value as JSON takes it: tuples as lists, paths as text, undefined numbers as None."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and math.isnan(value) else value
