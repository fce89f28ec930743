"""A training's file of metrics: one JSON object a line, each with the number of its step."""

import json
from pathlib import Path


def keep_metrics_until(metrics: Path, steps: int) -> None:
    """Drop the metrics of epochs whose checkpoint was not written before a training was stopped."""
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if 0 < _step(line) <= steps]
        metrics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except json.JSONDecodeError:
        return 0  # the training was killed while it wrote this line
