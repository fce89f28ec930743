"""The cases of a prediction that are finished, so that one which was stopped is resumed behind them."""

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fsseg.config.base import StrictModel, validated
from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json
from fsseg.config.manifest import sha256_of_file
from fsseg.config.staging import MARKER_NAME

log = logging.getLogger(__name__)

FINISHED_NAME = "finished_cases.json"
_FileName = Annotated[str, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$")]  # of a file in the folder: it may be deleted


class _Finished(StrictModel):
    images: list[str]
    files: dict[_FileName, str]
    seconds: float


class _Record(StrictModel):
    fingerprint: str
    cases: dict[str, _Finished]


class FinishedCases:
    """Knows which label maps in a folder are whole, and of which images they were made.

    A label map is written elsewhere, moved here when it is whole, and then recorded with its hash; one that is not
    recorded, or has another hash, does not count.

    Args:
        folder: where the label maps are, or will be.
        fingerprint: what decides a label map besides the image; those of another one do not count.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self._cases = self._read()

    def __contains__(self, case: str) -> bool:
        """Return whether a case was finished, with whatever images."""
        return case in self._cases

    def holds(self, case: str, hashes: Mapping[str, str]) -> bool:
        """Return whether a case is finished.

        Args:
            case: its name.
            hashes: of the content of its images, in the order of the channels.
        """
        entry = self._cases.get(case)
        return entry is not None and entry.images == list(hashes.values()) and self._is_whole(entry.files)

    def seconds(self, case: str) -> float:
        """Return how long a finished case took."""
        return self._cases[case].seconds

    def add(self, case: str, hashes: Mapping[str, str], files: Sequence[Path], seconds: float) -> None:
        """Move the files of a case, which are whole, into the folder, and record it.

        Args:
            case: its name.
            hashes: as for `holds`.
            files: the label map and what lies beside it, on the same disk.
            seconds: how long it took.
        """
        names = {file.name: sha256_of_file(file) for file in files}
        for file in files:
            file.replace(self.folder / file.name)
        self._cases[case] = _Finished(images=list(hashes.values()), files=names, seconds=seconds)
        write_json(self.folder / FINISHED_NAME, _Record(fingerprint=self.fingerprint, cases=self._cases).model_dump())

    def discard(self, case: str) -> None:
        """Delete what is left of a case that was finished with other images."""
        entry = self._cases.pop(case, None)
        for name in () if entry is None else entry.files:
            (self.folder / name).unlink(missing_ok=True)

    def keep_only(self, cases: Collection[str]) -> int:
        """Delete all that does not belong to recorded cases among `cases`; return how many there are."""
        self._cases = {case: entry for case, entry in self._cases.items() if case in cases}
        kept = {FINISHED_NAME} if self._cases else set()
        kept |= {MARKER_NAME, *(name for entry in self._cases.values() for name in entry.files)}
        for path in self.folder.iterdir():
            if path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return len(self._cases)

    def _is_whole(self, files: Mapping[str, str]) -> bool:
        return all(
            (self.folder / name).is_file() and sha256_of_file(self.folder / name) == sha256
            for name, sha256 in files.items()
        )

    def _read(self) -> dict[str, _Finished]:
        file = self.folder / FINISHED_NAME
        if not file.is_file():
            return {}
        try:
            record = validated(_Record, read_json(file), str(file), FssegError)
        except FssegError as error:
            log.warning("%s All cases are segmented again.", error)
            return {}
        if record.fingerprint != self.fingerprint:
            log.warning(
                "%s holds %d label maps of another model or other settings: these cases are segmented again.",
                self.folder,
                len(record.cases),
            )
            return {}
        return record.cases
