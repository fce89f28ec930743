"""Segmenting cases one after the other: a bad one stops no other, and what is finished is kept."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.data.images import UnreadableImageError
from fsseg.data.intensity_scale import scale_notes
from fsseg.nnunet.prediction import Predictor
from fsseg.prediction.finished_cases import FinishedCases
from fsseg.prediction.input_files import readable_files
from fsseg.prediction.inputs import PredictionCase

log = logging.getLogger(__name__)

_WORK_NAME = "in_work"  # folder beside the finished label maps, for what is not whole yet


class Segmenting:
    """Segments cases into the folder of the finished ones.

    Args:
        predictor: runs the network.
        finished: the cases that need not be segmented again.
        save_probabilities: also write what nnU-Net's ensembles read.

    Attributes:
        hashes: path -> hash of the images of all cases.
        bad: case -> why it could not be segmented.
        finished_before: number of cases that were finished when this began.
        earlier_seconds: how long these took.
    """

    def __init__(self, predictor: Predictor, finished: FinishedCases, *, save_probabilities: bool) -> None:
        self.predictor = predictor
        self.finished = finished
        self.save_probabilities = save_probabilities
        self.hashes: dict[str, str] = {}
        self.bad: dict[str, str] = {}
        self.finished_before = 0
        self.earlier_seconds = 0.0

    def run(self, cases: Sequence[PredictionCase]) -> None:
        """Segment what is not finished.

        Raises:
            FssegError: a label map cannot be written, or the network gives no finite logits.
        """
        kept = self.finished.keep_only([case.name for case in cases])
        if kept:
            log.warning("Resuming: %d of %d cases were finished before.", kept, len(cases))
        work = self.finished.folder / _WORK_NAME
        work.mkdir()
        with Progress("predict", len(cases), "case") as progress:
            for case in progress.over(cases):
                try:
                    self._add(case, work)
                except UnreadableImageError as error:
                    self.bad[case.name] = str(error)
                    log.warning("%s cannot be segmented: %s", case.name, error)
        work.rmdir()

    def _add(self, case: PredictionCase, work: Path) -> None:
        """Segment a case unless it is finished; raise `UnreadableImageError` if its images cannot be used."""
        started = time.perf_counter()
        try:
            hashes = case.hashes()
        except OSError as error:
            raise UnreadableImageError(f"unreadable: {error.filename} ({error.strerror})") from None
        self.hashes |= hashes
        if self.finished.holds(case.name, hashes):
            self.finished_before += 1
            self.earlier_seconds += self.finished.seconds(case.name)
            return
        self.finished.discard(case.name)
        files = self._segment(case, work)
        self.finished.add(case.name, hashes, files, time.perf_counter() - started)

    def _segment(self, case: PredictionCase, work: Path) -> list[Path]:
        """Write the label map of a case, and what belongs beside it; return the files."""
        with readable_files(case, work) as images:
            try:
                image, properties = self.predictor.preprocessor.image(images)
            except FssegError as error:
                raise UnreadableImageError(" ".join(str(error).split())) from None
        off_scale = self.predictor.preprocessor.off_scale
        for note in scale_notes({file.name: off_scale[file.name] for file in images if file.name in off_scale}):
            log.warning("%s", note)
        out = work / f"{case.name}{self.predictor.model.dataset_json['file_ending']}"
        labels = self.predictor.model.dataset_json
        logits = self.predictor.logits(image)
        self.predictor.write(logits, properties, out, labels, save_probabilities=self.save_probabilities)
        beside = [work / f"{case.name}{ending}" for ending in (".npz", ".pkl")] if self.save_probabilities else []
        return [*beside, out]
