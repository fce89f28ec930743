"""The state of an adaptation in a file, so that a training that was stopped is resumed to the same result."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fsseg import __version__
from fsseg.config.errors import FssegError
from fsseg.config.recipes import deciding_settings
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.training.course import Course
from fsseg.training.schedule import Schedule
from fsseg.training.torch_file import read_torch_file, write_torch_file

logger = logging.getLogger(__name__)


def fingerprint_of(facts: dict[str, Any], volumes: Sequence[Volume]) -> str:
    """Return a hash of what decides a training: settings as plain JSON values, what is trained on, and the program."""
    facts = {**facts, "recipe": deciding_settings(facts["recipe"]), "fsseg": __version__}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for volume in volumes:
        digest.update(volume.case.encode())
        for array in (volume.image, volume.labels, volume.zones, volume.zone_annotated):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


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
            state = read_torch_file(self.file)
        except FssegError as error:
            raise FssegError(f"{error}\n  Delete {self.file} to start again.") from None
        is_of_this = state.get("fingerprint") == self.fingerprint
        if not is_of_this:
            logger.warning("A training with other settings or data was stopped here; this one starts anew.")
        return state if is_of_this else None

    def save(self, state: Callable[[], dict[str, Any]], *, now: bool) -> None:
        """Ask for the state and write it: now, or else if the last write is too long ago."""
        if not now and time.monotonic() - self._written < 60 * self.minutes:
            return
        write_torch_file(self.file, {"fingerprint": self.fingerprint, **state()})
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file of a training that has ended."""
        self.file.unlink(missing_ok=True)


def fit_state(
    adapted: AdaptedNetwork,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    schedule: Schedule,
    course: Course,
) -> dict[str, Any]:
    """Return what a training needs to be resumed, as plain values and tensors."""
    return {
        "course": course.state(),
        "trained": adapted.state(),
        "method": adapted.method.training_state(adapted.network),
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "schedule": {name: value for name, value in vars(schedule).items() if name in schedule.changing},
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
