"""The state of an adaptation in a file, so that a training that was stopped goes on to the same result."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fsseg.config.errors import FssegError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.training.schedule import Schedule


class FitCheckpoint:
    """Keeps the latest state of one training.

    Args:
        file: where; complete or absent.
        fingerprint: what decides the training; a state of another one is not used.
        minutes: time between two writes.
    """

    def __init__(self, file: Path, fingerprint: str, *, minutes: float = 2.0) -> None:
        self.file = file
        self.fingerprint = fingerprint
        self.minutes = minutes
        self._written = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None if there is none of this training.

        Raises:
            FssegError: the file is damaged.
        """
        if not self.file.is_file():
            return None
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            return state if state["fingerprint"] == self.fingerprint else None
        except Exception as error:  # noqa: BLE001 - a damaged file may fail in any way
            raise FssegError(f"{self.file} cannot be read: {error}\n  Delete it to start again.") from None

    def save_if_due(self, state: Callable[[], dict[str, Any]]) -> None:
        """Ask for the state and write it, if the last write is too long ago."""
        if time.monotonic() - self._written < 60 * self.minutes:
            return
        temporary = self.file.with_name(self.file.name + ".tmp")
        torch.save({"fingerprint": self.fingerprint, **state()}, temporary)
        temporary.replace(self.file)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file of a training that has ended."""
        self.file.unlink(missing_ok=True)


def fit_state(
    adapted: AdaptedNetwork, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, schedule: Schedule
) -> dict[str, Any]:
    """Return what a training needs to go on, as plain values and tensors."""
    return {
        "trained": adapted.state(),
        "method": adapted.method.training_state(adapted.network),
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "schedule": {name: value for name, value in vars(schedule).items() if name in schedule.changing},
        "random": torch.get_rng_state(),
    }


def restore_fit(
    adapted: AdaptedNetwork,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    schedule: Schedule,
    state: dict[str, Any],
) -> None:
    """Put a training that has been set up into a state of `fit_state`."""
    adapted.load_state(state["trained"])
    adapted.method.load_training_state(adapted.network, state["method"])
    optimizer.load_state_dict(state["optimizer"])
    if scaler is not None and state["scaler"] is not None:
        scaler.load_state_dict(state["scaler"])
    vars(schedule).update(state["schedule"])
    torch.set_rng_state(state["random"])
