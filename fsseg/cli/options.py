"""Options and output that the commands share."""

import argparse
import json
import re
import sys
from typing import Any


def add_output_options(parser: argparse.ArgumentParser, *, dry_run: bool = False) -> None:
    """Add --json and, where a command costs time, --dry-run."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    if dry_run:
        parser.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device; whether the device exists is found out where torch is imported."""
    parser.add_argument(
        "--device",
        default="auto",
        type=_device_name,
        help="where to compute: auto, cpu, cuda, cuda:N (the one with number N) or mps; auto takes CUDA when there is"
        " one (default: auto)",
    )


def _device_name(text: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        return text
    raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from auto, cpu, cuda, cuda:N, mps)")


def emit(result: Any, text: str, as_json: bool) -> None:
    """Print the result of a command: JSON for programs, `text` for people."""
    sys.stdout.write((json.dumps(result, indent=2, default=str) if as_json else text.rstrip()) + "\n")


def parse_set(pairs: list[str]) -> dict[str, Any]:
    """Turn KEY=VALUE words into a mapping; values are read as YAML, so numbers and booleans come out as such.

    Raises:
        UsageError: a word has no "=", or a key is given twice.
    """
    from fsseg.config.bounded_text import parse_yaml
    from fsseg.config.errors import UsageError

    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"--set takes KEY=VALUE, got {pair!r}.\n  Write for example --set rank=8 alpha=16")
        if key in values:
            raise UsageError(f"--set names {key!r} twice.")
        values[key] = parse_yaml(text, f"The value of --set {key}", UsageError)
    return values
