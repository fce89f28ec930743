"""What of a leave-one-out is done, in a file, so that one that was stopped is resumed."""

import hashlib
import logging
from pathlib import Path

from fsseg.adaptation.kept_masks import KeptMasks
from fsseg.config.base import StrictModel, validated
from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json
from fsseg.training.fit_checkpoint import FitCheckpoint

logger = logging.getLogger(__name__)

Scores = dict[str, float | None]  # DSC by structure, or by case; None where both masks are empty


class _Record(StrictModel):
    fingerprint: str
    folds: dict[str, Scores]
    seconds: float = 0.0  # earlier versions of the file have none


class FoldScores:
    """The scores of the folds that are done, in a file, so that an estimate that was stopped is resumed.

    Args:
        file: where; complete or absent. The state of the fold that is being trained lies beside it. None keeps nothing.
        fingerprint: what decides the trainings; scores of others are not used.

    Attributes:
        seconds: what the folds have taken.
        earlier_seconds: the part of it before the estimate was stopped.

    Raises:
        FssegError: the file is damaged.
    """

    def __init__(self, file: Path | None, fingerprint: str) -> None:
        self.file = file
        self.fingerprint = fingerprint
        self.folds: dict[str, Scores] = {}  # of held-out cases
        self.seconds = self.earlier_seconds = 0.0
        self._masks: dict[str, KeptMasks] = {}
        record = None if file is None else _record(file)
        if record is not None and record.fingerprint == fingerprint:
            self.folds = record.folds
            self.seconds = self.earlier_seconds = record.seconds
        elif record is not None:
            logger.warning("A leave-one-out with other settings or data was stopped here; this one starts anew.")

    def add(self, case: str, scores: Scores, seconds: float = 0.0, earlier_seconds: float = 0.0) -> None:
        """Keep the scores of a held-out case.

        Args:
            case: the case.
            scores: its scores.
            seconds: what the fold has taken.
            earlier_seconds: the part of it before it was stopped.
        """
        self.folds[case] = scores
        self.seconds += seconds
        self.earlier_seconds += earlier_seconds
        if self.file is not None:
            write_json(self.file, {"fingerprint": self.fingerprint, "folds": self.folds, "seconds": self.seconds})
        if checkpoint := self.training_without(case):
            checkpoint.remove()

    def keep(self, case: str, masks: KeptMasks) -> None:
        """Keep what was predicted in a held-out case, for the report."""
        if self.file is None:
            self._masks[case] = masks
        else:
            masks.save(self._beside(case, "npz"))

    def masks(self, case: str) -> KeptMasks | None:
        """Return what was predicted in a held-out case; None where that was not kept."""
        return self._masks.get(case) if self.file is None else KeptMasks.load(self._beside(case, "npz"))

    def training_without(self, case: str) -> FitCheckpoint | None:
        """Return what keeps the state of the training that holds out a case."""
        if self.file is None:
            return None
        return FitCheckpoint(self._beside(case, "pt"), f"{self.fingerprint} without {case}")

    def _beside(self, case: str, ending: str) -> Path:
        assert self.file is not None
        name = hashlib.sha256(case.encode()).hexdigest()[:12]  # not every case name would be a file name beside this
        return self.file.with_name(f"{self.file.stem}_{name}.{ending}")


def _record(file: Path) -> _Record | None:
    try:
        return validated(_Record, read_json(file), str(file), FssegError) if file.is_file() else None
    except FssegError as error:
        raise FssegError(f"{error}\n  Delete it to start again.") from None
