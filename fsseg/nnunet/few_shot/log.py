"""What nnU-Net's users look at while an adaptation runs: epoch lines in the training log, and progress.png."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fsseg.nnunet.metrics_file import keep_metrics_until
from fsseg.reporting.curves import Curves, panels_figure

PROGRESS_NAME = "progress.jsonl"
PICTURE_NAME = "progress.png"
_LEAST_STEPS = 50
_SECONDS_BETWEEN_PICTURES = 30.0


class EpochLog:
    """Reports an adaptation, which has no epochs, in stretches of at least 50 steps that stand for them.

    Every stretch gets nnU-Net's lines in the training log and a line in progress.jsonl, from which progress.png is
    drawn; a resumed training draws there, too. There is no validation loss and no pseudo Dice: an adaptation
    has no validation set.

    Args:
        folder: of the fold.
        write: nnU-Net's `print_to_log_file`.
        epoch_steps: steps of the recipe's epochs; a stretch is made of whole ones.
    """

    def __init__(self, folder: Path, write: Callable[..., None], epoch_steps: int) -> None:
        self.file = folder / PROGRESS_NAME
        self.picture = folder / PICTURE_NAME
        self.write = write
        self.steps = -(-_LEAST_STEPS // epoch_steps) * epoch_steps
        self._reported: int | None = None  # steps of the stretches that are reported
        self._began = time.monotonic()
        self._drawn = self._began - _SECONDS_BETWEEN_PICTURES

    def __call__(self, losses: Sequence[float], rates: Mapping[str, float]) -> None:
        """Take note of a step.

        Args:
            losses: of all steps so far, those before a training was stopped included.
            rates: learning rates of the step, by parameter group.
        """
        if self._reported is None:
            self._start(len(losses) - 1)
        self._losses, self._rates = losses, dict(rates)
        if len(losses) % self.steps == 0:
            self._report()

    def close(self, *, plateau: bool) -> None:
        """Report the last stretch, which may be shorter, and say how the training ended."""
        if self._reported is None:
            self.write("The head was set without training.")
            return
        if len(self._losses) > self._reported:
            self._report()
        self._draw()
        ended = "the loss has reached its plateau" if plateau else "the cap on the steps"
        self.write(f"Training done: {len(self._losses)} steps, {ended}.")

    def _start(self, done: int) -> None:
        keep_metrics_until(self.file, done)
        self._began = time.monotonic()
        self._first_step = done
        self._reported = max((line["step"] for line in self._lines()), default=0)
        self.write(
            f"An epoch stands for {self.steps} steps. An adaptation has no validation set, so there is no val_loss and"
            " no Pseudo dice."
        )

    def _report(self) -> None:
        assert self._reported is not None
        step, now = len(self._losses), time.monotonic()
        taken = step - max(self._reported, self._first_step)
        mean = sum(self._losses[self._reported :]) / (step - self._reported)
        line = {
            "step": step,
            "train_loss": round(mean, 6),
            "learning_rates": {name: float(f"{rate:.6g}") for name, rate in self._rates.items()},
            "seconds_a_step": round((now - self._began) / taken, 4),
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._log(line, now - self._began)
        self._reported = step
        if now - self._drawn > _SECONDS_BETWEEN_PICTURES:
            self._draw()
        self._began = time.monotonic()  # drawing is no part of a step

    def _log(self, line: dict[str, Any], seconds: float) -> None:
        """Write the lines of an epoch as nnU-Net writes them, since programs read its logs."""
        rates = ", ".join(f"{rate:g} ({name})" for name, rate in line["learning_rates"].items())
        self.write("")
        self.write(f"Epoch {-(-line['step'] // self.steps) - 1}")
        self.write(f"Current learning rate: {rates}")
        self.write("train_loss", round(line["train_loss"], 4))
        self.write(f"Epoch time: {seconds:.2f} s")

    def _lines(self) -> list[dict[str, Any]]:
        if not self.file.is_file():
            return []
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def _draw(self) -> None:
        lines = self._lines()
        steps = [line["step"] for line in lines]
        rates: Curves = {
            name: (steps, [line["learning_rates"].get(name, float("nan")) for line in lines]) for name in self._rates
        }
        panels: dict[str, Curves] = {
            "loss": {"train_loss": (range(1, len(self._losses) + 1), self._losses)},
            "learning rate": rates,
            "seconds a step": {"time": (steps, [line["seconds_a_step"] for line in lines])},
        }
        temporary = self.picture.with_suffix(".png.tmp")
        temporary.write_bytes(panels_figure(panels, f"adaptation, {len(self._losses)} steps"))
        temporary.replace(self.picture)
        self._drawn = time.monotonic()
