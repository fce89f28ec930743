"""JSON files: written complete or not at all, read with a message where they are damaged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsseg.config.bounded_text import MOST_JSON_MIB, parse_json, read_bounded
from fsseg.config.errors import FssegError


def write_json(path: Path, content: Any) -> None:
    """Write JSON with the keys in their given order; the file is complete or absent."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path, keys: Sequence[str] = (), *, error: type[FssegError] = FssegError) -> dict[str, Any]:
    """Read a JSON mapping that has certain keys.

    Args:
        path: the file, which exists.
        keys: what the mapping must have.
        error: what to raise for a file that is no such mapping.
    """
    content = parse_json(read_bounded(path, MOST_JSON_MIB, "JSON", error), str(path), error)
    missing = missing_keys(content, keys)
    if missing or not isinstance(content, dict):
        raise error(f"{path} is damaged or another file: it lacks {', '.join(missing) or 'all keys'}.")
    return content


def missing_keys(content: Any, keys: Sequence[str]) -> list[str]:
    """Return the keys that a mapping lacks; all of them if it is no mapping."""
    return [key for key in keys if not isinstance(content, dict) or key not in content]
