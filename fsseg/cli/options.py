"""Options and output that the commands share."""

import argparse
import json
import sys
from typing import Any


def add_output_options(parser: argparse.ArgumentParser, *, dry_run: bool = False) -> None:
    """Add --json and, where a command costs time, --dry-run."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    if dry_run:
        parser.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device with the choices that torch offers here."""
    parser.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda", "mps"),
        help="where to compute; auto takes CUDA when there is one (default: auto)",
    )


def emit(result: Any, text: str, as_json: bool) -> None:
    """Print the result of a command: JSON for programs, `text` for people."""
    sys.stdout.write((json.dumps(result, indent=2, default=str) if as_json else text.rstrip()) + "\n")
