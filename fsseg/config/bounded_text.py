"""JSON and YAML of strangers: bounds on size, depth and expansion, far above what honest files need."""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from fsseg.config.errors import FssegError, shown, shown_line

MOST_JSON_MIB = 256  # structures.json of 50,000 cases with 100 structures each has some 150
MOST_YAML_MIB = 1
_MOST_ENTRIES = {"JSON": 10_000_000, "YAML": 50_000}  # of all lists and mappings together, aliases expanded
_MOST_DEPTH = 64
# What constructors of YAML's own types raise besides: for `!!int x`, `!!float ""`, the 99th of a month.
_NO_VALUE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def read_bounded(path: Path, most_mib: int, kind: str, error: type[FssegError]) -> str:
    """Return the text of a file; raise `error` where it is too large or no UTF-8.

    Args:
        path: the file, which exists.
        most_mib: the largest size that is read.
        kind: "JSON" or "YAML", for messages.
        error: what to raise.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise error(f"{path} is not read: it is no regular file.\n  Give the path of a {kind} file.")
    if size > most_mib * 2**20:
        raise error(f"{path} is not read: {size / 2**20:,.0f} MiB.\n  allowed: {kind} files of up to {most_mib} MiB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as damage:
        raise error(f"{path} is damaged: it is not valid {kind}: {shown(str(damage))}") from None


def parse_json(text: str, where: str, error: type[FssegError] = FssegError) -> Any:
    """Parse JSON; raise `error` for what is none, and for what would take more memory than any honest file.

    Args:
        text: the JSON.
        where: where it comes from, for messages.
        error: what to raise.
    """
    entries = sum(text.count(mark) for mark in ",[{")  # JSON has no references: nothing grows by parsing
    if entries > _MOST_ENTRIES["JSON"]:
        raise _too_large(where, "JSON", error)
    try:
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise _too_deep(where, error) from None
    except ValueError as damage:  # JSONDecodeError, and numbers of thousands of digits
        raise error(f"{where} is damaged: it is not valid JSON: {shown_line(damage)}") from None
    level, depth = [content], 0
    while level := [each for container in level for each in _inner(container)]:
        depth += 1
        if depth >= _MOST_DEPTH:
            raise _too_deep(where, error)
    return content


def parse_yaml(text: str, where: str, error: type[FssegError]) -> Any:
    """Parse YAML of plain values; raise `error` for what is none, and where depth or aliases would make it too large.

    Args:
        text: the YAML.
        where: where it comes from, for messages.
        error: what to raise.
    """
    try:
        _require_bounded_yaml(text, where, error)
        return yaml.safe_load(text)
    except yaml.YAMLError as damage:
        raise error(f"{where} is not valid YAML: {shown_line(damage)}") from None
    except _NO_VALUE as damage:
        raise error(f"{where} is not valid YAML: a value is not of its type ({shown_line(damage)})") from None


def _finite(text: str) -> float:
    """Return a number; Python's parser takes NaN and Infinity, which JSON has not, and 1e999 for infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


def _inner(container: Any) -> list[Any]:
    """Return the lists and mappings that one of them holds."""
    values = container.values() if isinstance(container, dict) else container if isinstance(container, list) else ()
    return [value for value in values if isinstance(value, dict | list)]


def _require_bounded_yaml(text: str, where: str, error: type[FssegError]) -> None:
    """Go through the events of YAML, which are not expanded yet, and count what they would expand to."""
    anchored: dict[str, int] = {}  # anchor -> entries below it
    open_nodes: list[tuple[str | None, int]] = []  # anchors of the open lists and mappings, and entries before them
    entries = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, entries))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                anchored[anchor] = entries - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise error(f"{where}: the alias {shown(event.anchor)} stands inside what it stands for.")
            entries += anchored.get(event.anchor or "", 0)
        entries += isinstance(event, yaml.NodeEvent)
        if entries > _MOST_ENTRIES["YAML"]:
            raise _too_large(where, "YAML", error)
        if len(open_nodes) >= _MOST_DEPTH:
            raise _too_deep(where, error)


def _too_large(where: str, kind: str, error: type[FssegError]) -> FssegError:
    aliases = ", aliases expanded" if kind == "YAML" else ""
    return error(f"{where} is not read: it has more than {_MOST_ENTRIES[kind]:,} entries{aliases}.")


def _too_deep(where: str, error: type[FssegError]) -> FssegError:
    return error(f"{where} is not read: lists and mappings lie more than {_MOST_DEPTH} deep in it.")
