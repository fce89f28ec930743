"""Folders of label maps, predicted or reference: their cases, and what the integers in them mean.

Two folders may number the same structures differently: what an integer means comes from the structures.json
or dataset.json that belongs to its own folder. Structures are matched by name.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsseg.config.errors import FssegError, UsageError, require_known
from fsseg.config.json_files import read_json
from fsseg.data.folder_listing import listed
from fsseg.data.splits import SUPPORT_KEY, TRANSDUCTIVE_KEY
from fsseg.data.structures import STRUCTURES_NAME, Structures, load_structures

log = logging.getLogger(__name__)

FILE_ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
_DEFINITIONS = (STRUCTURES_NAME, "dataset.json")


@dataclass(frozen=True)
class LabelFolder:
    """A folder of label maps and what they mean.

    Attributes:
        path: the folder with the files.
        definition: the structures.json or dataset.json that says what the integers mean.
        structures: its content.
        files: case -> label map.
    """

    path: Path
    definition: Path
    structures: Structures
    files: dict[str, Path]

    @property
    def support_cases(self) -> tuple[str, ...]:
        """The cases to which the model that made these predictions was adapted; none where that is not written down."""
        return tuple(read_json(self.definition).get(SUPPORT_KEY, ()))

    @property
    def transductive_cases(self) -> tuple[str, ...]:
        """The cases whose images that model saw without their label maps; none where that is not written down."""
        return tuple(read_json(self.definition).get(TRANSDUCTIVE_KEY, ()))

    def annotated(self, case: str) -> tuple[str, ...]:
        """Return the structures whose truth is known in `case`; a plain dataset.json annotates all of them.

        Raises:
            FssegError: structures.json does not list the case.
        """
        if self.definition.name != STRUCTURES_NAME:
            return self.structures.names
        return self.structures.annotation(case).annotated

    def z_extent(self, case: str, structure: str, slices: int) -> tuple[int, int] | None:
        """Return the slice range in which `structure` is annotated, or None where that is the whole volume.

        Raises:
            FssegError: the range does not lie inside the `slices` of the volume.
        """
        annotation = self.structures.cases.get(case)
        extent = annotation.z_extent.get(structure) if annotation else None
        if extent is not None and not 0 <= extent[0] < extent[1] <= slices:
            raise FssegError(
                f"{self.definition}: the z-extent [{extent[0]}, {extent[1]}) of {structure!r} in case "
                f"{case!r} must be a range of slices of its volume, which has {slices}."
            )
        return extent


def open_label_folder(path: Path) -> LabelFolder:
    """Find the label maps of a folder and what they mean.

    structures.json is looked for in the folder, then dataset.json there, then both in its parent, which fits
    predictions (dataset.json beside the masks) and raw datasets (DatasetXXX/labelsTr).

    Raises:
        UsageError: the folder does not exist, holds no label map, or nothing says what its integers mean.
        FssegError: two files belong to one case, or the JSON is damaged.
    """
    if not path.is_dir():
        raise UsageError(f"Folder not found: {path}\n  Give a folder of label maps, one file per case.")
    files = _label_files(path)
    if not files:
        raise UsageError(
            f"No label map in {path}\n  Expected one file per case, ending in {' or '.join(FILE_ENDINGS)}."
        )
    definition = _definition(path)
    return LabelFolder(path, definition, load_structures(definition.parent), files)


def structures_to_compare(
    prediction: LabelFolder, reference: LabelFolder, wanted: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the structures that both folders know, or those of `wanted`, by name.

    Raises:
        UsageError: a wanted structure is unknown to one of the folders, or they have none in common.
    """
    known = {"prediction": prediction, "reference": reference}
    if wanted is not None:
        for role, folder in known.items():
            hint = f"These are the structures of the {role} folder, from {folder.definition}"
            require_known("structure", wanted, folder.structures.names, hint)
        return tuple(dict.fromkeys(wanted))
    common = tuple(name for name in reference.structures.names if name in prediction.structures.names)
    if not common:
        listing = "\n".join(
            f"  {role}: {', '.join(folder.structures.names) or '(none)'} ({folder.definition})"
            for role, folder in known.items()
        )
        raise UsageError(
            f"Prediction and reference have no structure in common.\n{listing}\n"
            "  Structures are matched by name: name them alike in both files."
        )
    _log_left_out(known, common)
    return common


def _log_left_out(folders: dict[str, LabelFolder], common: Sequence[str]) -> None:
    for role, folder in folders.items():
        others = [name for name in folder.structures.names if name not in common]
        if others:
            log.info("Not compared, known only to the %s: %s", role, ", ".join(others))


def cases_to_compare(prediction: LabelFolder, reference: LabelFolder, wanted: tuple[str, ...] | None) -> list[str]:
    """Return the cases of both folders, or those of `wanted`, sorted.

    Raises:
        UsageError: a case lacks its prediction or its reference; all such cases are named.
    """
    every_case = prediction.files.keys() | reference.files.keys()
    if wanted is not None:
        require_known("case", wanted, every_case)
    cases = sorted(every_case if wanted is None else set(wanted))
    problems = [
        f"  without a {role} in {folder.path}: {', '.join(missing)}"
        for role, folder in (("prediction", prediction), ("reference", reference))
        if (missing := [case for case in cases if case not in folder.files])
    ]
    if problems:
        listing = "\n".join(problems)
        raise UsageError(
            f"Cases of prediction and reference do not match:\n{listing}\n"
            "  Complete the folders, or name the cases to compare with --cases."
        )
    return cases


def _label_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in listed(folder):
        ending = next((ending for ending in FILE_ENDINGS if path.name.endswith(ending)), None)
        if ending is None:
            continue
        case = path.name.removesuffix(ending)
        if case in files:
            raise FssegError(f"Two files for case {case!r}: {files[case]} and {path}\n  Remove one of them.")
        files[case] = path
    return files


def _definition(folder: Path) -> Path:
    places = [place / name for place in (folder, folder.absolute().parent) for name in _DEFINITIONS]
    for path in places:
        if path.is_file():
            return path
    raise UsageError(
        f"Nothing says what the integers of the label maps in {folder} mean.\n"
        f"  Looked for: {', '.join(map(str, places))}\n"
        "  Copy the dataset.json that nnU-Net or fsseg wrote with these label maps into the folder."
    )
