"""A comparison that was checked: what is scored on which cases, before anything is predicted; and its scores."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsseg.comparing.entries import Entry, read_entries, require_unseen, shared_structures
from fsseg.comparing.numbers import Comparison
from fsseg.config.errors import UsageError, require_known
from fsseg.data.splits import read_case_list
from fsseg.evaluation.comparison import compare
from fsseg.evaluation.label_folders import LabelFolder, cases_to_compare, open_label_folder

log = logging.getLogger(__name__)

_IMAGES_BESIDE = {"labelsTr": "imagesTr", "labelsTs": "imagesTs"}  # in a raw dataset of nnU-Net


@dataclass(frozen=True)
class Checked:
    """What is compared.

    Attributes:
        entries: runs, and folders of predictions.
        reference: label maps.
        images: folder of images; None where nothing is to be predicted and none is there.
        cases: that are scored, sorted.
        structures: that reference and entries know.
        notes: what a reader should know.
        baseline: name of the entry that the others are compared to.
    """

    entries: Sequence[Entry]
    reference: LabelFolder
    images: Path | None
    cases: tuple[str, ...]
    structures: tuple[str, ...]
    notes: list[str]
    baseline: str

    def scored(self, folders: Mapping[str, LabelFolder], tolerance_mm: float) -> tuple[Comparison, list[str]]:
        """Return the numbers, and what a reader should know of them.

        Args:
            folders: entry -> its label maps.
            tolerance_mm: surfaces this close agree (NSD).
        """
        rows = {
            run: compare(folder, self.reference, self.cases, self.structures, tolerance_mm)
            for run, folder in folders.items()
        }
        annotated = {row.structure for row in rows[self.baseline]}
        never = [name for name in self.structures if name not in annotated]
        notes = [*self.notes, *([f"Annotated in none of the test cases: {', '.join(never)}."] if never else [])]
        for note in notes:
            log.warning("%s", note)
        return Comparison(rows, tuple(name for name in self.structures if name in annotated), self.baseline), notes

    def files(self) -> list[Path]:
        """Return the label maps that were given and are scored, and the files that say what they mean."""
        given = [self.reference, *(entry.predictions for entry in self.entries if entry.predictions is not None)]
        return [*(each.definition for each in given), *(each.files[case] for each in given for case in self.cases)]


def check(
    runs: Sequence[str],
    test: Path,
    reference: Path,
    *,
    images: Path | None = None,
    baseline: str | None = None,
    structures: Sequence[str] | None = None,
) -> Checked:
    """Check all that needs no prediction.

    Args:
        runs: folders, or NAME=FOLDER.
        test: file with the test cases.
        reference: folder of reference label maps.
        images: folder of the images; None looks beside the reference.
        baseline: name of an entry; None takes the first.
        structures: to compare; None takes all that are known to reference and entries.

    Raises:
        UsageError: a folder or file is missing, names do not match, or a test case was trained on.
    """
    entries, references = read_entries(runs), open_label_folder(reference)
    cases = tuple(sorted(set(read_case_list(test))))
    name = baseline or entries[0].name
    require_known("baseline", [name], [entry.name for entry in entries], "It is the name of a run.")
    shared, notes = shared_structures(entries, references, structures)
    require_known("test case", cases, references.files, f"These have a reference in {reference}")
    for entry in entries:
        if entry.predictions is not None:
            cases_to_compare(entry.predictions, references, cases)
    require_unseen(entries, cases)
    return Checked(entries, references, _images(images, reference, entries), cases, shared, notes, name)


def images_beside(images: Path | None, reference: Path) -> Path | None:
    """Return the folder of the images, if one is named or lies where nnU-Net has it.

    Raises:
        UsageError: the folder that is named is missing.
    """
    beside = _IMAGES_BESIDE.get(reference.name)
    folder = images or (reference.with_name(beside) if beside else None)
    if folder is not None and folder.is_dir():
        return folder
    if images is not None:
        raise UsageError(f"Image folder not found: {images}")
    return None


def _images(images: Path | None, reference: Path, entries: Sequence[Entry]) -> Path | None:
    found = images_beside(images, reference)
    runs = [entry.name for entry in entries if entry.run is not None]
    if found is None and runs:
        raise UsageError(
            f"{runs[0]} is a run, and the images that it is to predict are not beside {reference}.\n"
            "  Name their folder with --images."
        )
    return found
