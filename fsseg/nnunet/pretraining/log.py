"""What a pretraining reports while it runs: metrics.jsonl, a line an epoch, and the progress."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fsseg.config.progress import Progress
from fsseg.nnunet.metrics_file import keep_metrics_until

METRICS_NAME = "metrics.jsonl"


def last_validation_dice(metrics: Path) -> dict[str, float | None]:
    """Return the Dice of each structure after the last epoch; None where there is none."""
    return json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1])["validation_dice"]


class PretrainLog:
    """Metrics file and progress of one training; only the first of several processes starts it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.progress: Progress | None = None

    def start(self, steps_done: int, steps: int) -> None:
        """Drop the metrics of epochs that will run again, and show the progress."""
        keep_metrics_until(self.file, steps_done)
        self.progress = Progress("pretrain", steps, "step", done=steps_done)
        self.progress.start()

    def step(self, loss: float) -> None:
        """Advance by one step."""
        if self.progress is not None:
            self.progress.advance(loss)

    def epoch(self, step: int, losses: Sequence[float], dice: dict[str, float], learning_rate: float) -> None:
        """Append what an epoch came to; a structure without a Dice (NaN) has null."""
        if self.progress is None:
            return
        line = {
            "step": step,
            "losses": [round(loss, 6) for loss in losses],
            "validation_dice": {name: None if np.isnan(value) else round(value, 4) for name, value in dice.items()},
            "learning_rate": learning_rate,
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Show the progress no longer."""
        if self.progress is not None:
            self.progress.close()
