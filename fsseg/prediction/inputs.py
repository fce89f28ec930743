"""What there is to segment: an image file, a folder of them with or without channel numbers, or DICOM folders."""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from fsseg.config.errors import UsageError, first_of
from fsseg.config.manifest import sha256_of_files
from fsseg.data.case_names import misread_names
from fsseg.data.dicom_series import folders_with_dicom, is_dicom
from fsseg.data.folder_listing import files_of, listed
from fsseg.nnunet.model_folder import ModelFolder

log = logging.getLogger(__name__)

_NIFTI = (".nii.gz", ".nii")
_BY_ITK = (*_NIFTI, ".nrrd", ".mha")
# Reader of nnU-Net -> what it reads, whatever ending the training images had; of others, only that ending.
_ENDINGS = {
    "SimpleITKIO": _BY_ITK,
    "SimpleITKIOWithReorient": _BY_ITK,
    "NibabelIO": _NIFTI,
    "NibabelIOWithReorient": _NIFTI,
}
_NUMBERED = re.compile(r"(.+)_(\d{4})")
_MOST_NAMES = 5


@dataclass(frozen=True)
class PredictionCase:
    """One case to segment.

    Attributes:
        name: its label map is named so.
        files: one image file a channel, or the folder of a DICOM series.
        problem: why it cannot be segmented, if that is known.
    """

    name: str
    files: tuple[Path, ...]
    problem: str = ""

    @property
    def is_series(self) -> bool:
        """Whether the case is a DICOM series."""
        return self.files[0].is_dir()

    @property
    def first_file(self) -> Path:
        """An image file of the case, which tells how its images are stored."""
        if not self.is_series:
            return self.files[0]
        return next(file for file in listed(self.files[0]) if is_dicom(file))

    def hashes(self) -> dict[str, str]:
        """Return path -> hash of the content of each image file, or of all files in the folder of a series."""
        return {str(path): sha256_of_files(files_of(path)) for path in self.files}


@dataclass(frozen=True)
class PredictionInputs:
    """What was found.

    Attributes:
        cases: in the order of their names.
        ignored: names of files and folders that may have been meant as cases, but are none.
        ignored_because: why.
    """

    cases: tuple[PredictionCase, ...]
    ignored: tuple[str, ...] = ()
    ignored_because: str = ""

    @property
    def usable(self) -> list[PredictionCase]:
        """The cases without a known problem."""
        return [case for case in self.cases if not case.problem]

    @property
    def problems(self) -> dict[str, str]:
        """Case -> its problem, for the others."""
        return {case.name: case.problem for case in self.cases if case.problem}


class InputFinder:
    """Finds the cases that a model can segment.

    Args:
        model: says how image files end, how many channels there are, and what its reader reads.
    """

    def __init__(self, model: ModelFolder) -> None:
        self.ending: str = model.dataset_json["file_ending"]
        self.channels = model.channel_names
        self.reader = model.plans_manager().image_reader_writer_class.__name__
        self.endings = tuple(dict.fromkeys([self.ending, *_ENDINGS.get(self.reader, ())]))

    def find(self, path: Path) -> PredictionInputs:
        """Return the cases at a path.

        Raises:
            UsageError: there is nothing at the path, or nothing that can be segmented.
        """
        if path.is_file():
            return PredictionInputs((self._one_file(path),))
        if not path.is_dir():
            raise UsageError(f"Image folder not found: {path}\n  {self._forms()}")
        images = [file for file in listed(path) if file.name.endswith(self.endings)]
        found = self._image_folder(images) if images else self._dicom(path)
        beside = [entry.name for entry in listed(path) if images and entry.is_dir() and folders_with_dicom(entry)]
        if beside:
            log.warning("Not segmented, because %s holds image files: the DICOM files in %s", path, ", ".join(beside))
        if not found.cases:
            names = f", but {first_of(found.ignored, _MOST_NAMES)}" if found.ignored else ""
            raise UsageError(f"No image in {path}{names}\n  {self._forms()}")
        misread = misread_names(case.name for case in found.cases)
        reason = "its name ends like that of a NIfTI file, and no label map can be written under it; rename its files"
        return replace(found, cases=tuple(replace(c, problem=reason) if c.name in misread else c for c in found.cases))

    def _one_file(self, file: Path) -> PredictionCase:
        """Return the case of one image file: its other channels lie beside it."""
        if not file.name.endswith(self.endings):
            what = "one slice: give the folder of its series" if is_dicom(file) else "no image that the model reads"
            raise UsageError(f"{file} is {what}.\n  {self._forms()}")
        stem, ending = self._split(file)
        case = stem.removesuffix("_0000")
        if len(self.channels) == 1:
            return PredictionCase(case, (file,))
        if case == stem:
            raise UsageError(
                f"{file} does not say which of {len(self.channels)} channels it is ({', '.join(self.channels)}).\n"
                f"  Give the first one, CASE_0000{ending}, with the others beside it."
            )
        files = (file.with_name(f"{case}_{channel:04d}{ending}") for channel in range(len(self.channels)))
        return self._case(case, [file for file in files if file.exists()])

    def _image_folder(self, images: list[Path]) -> PredictionInputs:
        """Return the cases of a folder; where no file has a channel number, each is a case of a one-channel model."""
        numbered = [file for file in images if _NUMBERED.fullmatch(self._split(file)[0])]
        as_nnunet = [file for file in numbered if self._split(file)[1] == self.ending]
        used = as_nnunet or (images if len(self.channels) == 1 else numbered)
        cases: dict[str, list[Path]] = {}
        for file in used:
            stem, _ = self._split(file)
            match = _NUMBERED.fullmatch(stem)
            cases.setdefault(match[1] if match else stem, []).append(file)
        ignored = tuple(file.name for file in images if file not in used)
        found = tuple(self._case(case, files) for case, files in sorted(cases.items()))
        return PredictionInputs(found, ignored, f"not named CASE_0000{self.ending}")

    def _case(self, name: str, files: list[Path]) -> PredictionCase:
        """Return a case, with a problem if its files are not one for each channel."""
        wanted = [f"{channel:04d}" for channel in range(len(self.channels))]
        matches = [_NUMBERED.fullmatch(self._split(file)[0]) for file in files]
        if [match[2] if match else wanted[0] for match in matches] == wanted:
            return PredictionCase(name, tuple(files))
        problem = (
            f"its files do not have the {len(wanted)} channel(s) {', '.join(wanted)}:"
            f" {first_of([file.name for file in files], _MOST_NAMES)}; a case named patient_0007 has the file"
            f" patient_0007_0000{self.ending}"
        )
        return PredictionCase(name, tuple(files), problem)

    def _dicom(self, path: Path) -> PredictionInputs:
        """Return the series in a folder, or one of each folder inside it; such a folder may hold it further below."""
        own = folders_with_dicom(path, levels=0)
        folders = [] if own else [entry for entry in listed(path) if entry.is_dir()]
        below = {path.resolve().name: own} if own else {entry.name: folders_with_dicom(entry) for entry in folders}
        cases = {name: series for name, series in below.items() if series}
        if cases and self.reader not in _ENDINGS:
            raise UsageError(f"{path} holds DICOM series, which the reader of the model ({self.reader}) cannot take.")
        if cases and len(self.channels) > 1:
            raise UsageError(
                f"{path} holds DICOM series, but the model reads {len(self.channels)} channels a case"
                f" ({', '.join(self.channels)}).\n  Convert them to CASE_0000{self.ending}, CASE_0001{self.ending} …"
            )
        return PredictionInputs(
            tuple(_series_case(name, series) for name, series in cases.items()),
            tuple(name for name in below if name not in cases) if cases else (),
            "there are no DICOM files in them",
        )

    def _split(self, file: Path) -> tuple[str, str]:
        """Return the name of an image file without its ending, and the ending."""
        ending = next(ending for ending in self.endings if file.name.endswith(ending))
        return file.name.removesuffix(ending), ending

    def _forms(self) -> str:
        numbered = f"Give a folder of images named CASE_0000{self.ending}, with _0000 for the first channel"
        if len(self.channels) > 1:
            return f"{numbered}."
        others = f"a folder of files without a number, one file ({', '.join(self.endings)})"
        return f"{numbered}. This model also takes {others}, a DICOM folder, or a folder of DICOM folders."


def _series_case(name: str, folders: list[Path]) -> PredictionCase:
    several = f"holds DICOM files in several folders ({first_of([str(f) for f in folders], _MOST_NAMES)}); give one"
    return PredictionCase(name, (folders[0],), several if len(folders) > 1 else "")
