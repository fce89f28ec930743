"""Files of an nnU-Net raw dataset or image folder, by case."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fsseg.config.errors import FssegError, UsageError, first_of
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.data.case_names import require_plain_names
from fsseg.data.channels import channel_names
from fsseg.data.contents import DatasetContent
from fsseg.data.dataset_json import read_dataset_json
from fsseg.data.folder_listing import listed
from fsseg.data.structures import IGNORE, STRUCTURES_NAME, Structures, load_structures

_IMAGE_ENDINGS = (".nii.gz", ".nii")  # what a folder holds for segmenting, whatever ending the dataset has
_MOST_NAMES = 5


@dataclass(frozen=True)
class RawDataset:
    """An nnU-Net raw dataset: its cases, their files, and what its integers mean."""

    path: Path
    dataset_json: DatasetContent
    structures: Structures

    @property
    def cases(self) -> tuple[str, ...]:
        """Case identifiers of imagesTr, sorted, without those of `unlabelled`."""
        return tuple(self.images_of_cases())

    @cached_property
    def every_image(self) -> dict[str, list[Path]]:
        """Case -> image files, of all images; listed once, for a case is asked for many times."""
        return images_by_case(self.path / "imagesTr", self.dataset_json)

    @cached_property
    def unlabelled(self) -> tuple[str, ...]:
        """Case identifiers of images without a label map, of which no structures.json says that they have one."""
        unlisted = (case for case in self.every_image if case not in self.structures.cases)
        return tuple(case for case in unlisted if not os.path.lexists(self.label_path(case)))

    def unlabelled_notes(self) -> list[str]:
        """Say how many images are left out because nobody has labelled them."""
        cases = self.unlabelled
        if not cases:
            return []
        verb = "images have" if len(cases) > 1 else "image has"
        return [
            f"{len(cases)} {verb} no label map in {self.path / 'labelsTr'} and take no part:"
            f" {first_of(cases, _MOST_NAMES)}"
        ]

    @property
    def file_ending(self) -> str:
        """Ending of images and label maps, such as .nii.gz."""
        return self.dataset_json["file_ending"]

    def images_of_cases(self) -> dict[str, list[Path]]:
        """Return case -> image files, one a channel, without the cases of `unlabelled`.

        Raises:
            UsageError: no image has a label map, or there is none.
        """
        every, left_out = self.every_image, set(self.unlabelled)
        labelled = {case: files for case, files in every.items() if case not in left_out}
        if not labelled:
            raise UsageError(
                f"None of the {len(every)} image(s) in {self.path / 'imagesTr'} has a label map.\n"
                f"  Put them into {self.path / 'labelsTr'}, named CASE{self.file_ending} for the image"
                f" CASE_0000{self.file_ending}."
            )
        return labelled

    def images(self, case: str) -> list[Path]:
        """Return the image files of a case, one a channel."""
        return self.images_of_cases()[case]

    def ignored_images(self) -> list[Path]:
        """Return the files of imagesTr that look like images but are not named as those of a case."""
        return ignored_images(self.path / "imagesTr", self.dataset_json)

    def label_path(self, case: str) -> Path:
        """Return where the label map of a case belongs."""
        return self.path / "labelsTr" / f"{case}{self.file_ending}"

    def label(self, case: str) -> Path:
        """Return the label map of a case; raise `FssegError` if it is missing."""
        file = self.label_path(case)
        if not file.exists():  # who reads a pipe or a folder says what it is
            raise FssegError(f"Label map of case {case!r} is missing: {file}")
        return file

    def assembled_hashes(self) -> dict[str, dict[str, str]]:
        """Return the hashes of the source files by case, where `fsseg assemble` has left them; else none."""
        manifest = self.path / MANIFEST_NAME
        return read_json(manifest).get("case_sha256", {}) if manifest.is_file() else {}

    def ignore_remark(self) -> str:
        """Return what to add where a label map holds unnamed values, if dataset.json has nnU-Net's ignore label."""
        if IGNORE not in self.dataset_json["labels"]:
            return ""
        return (
            f" ({self.dataset_json['labels'][IGNORE]} is nnU-Net's ignore label, which is not supported:"
            f" list what such a case annotates in {STRUCTURES_NAME} instead)"
        )


def read_raw_dataset(path: Path) -> RawDataset:
    """Read an nnU-Net raw dataset folder; raise `FssegError` if it is incomplete."""
    structures = load_structures(path)
    file = path / "dataset.json"
    dataset_json = read_dataset_json(file)
    if "dataset" in dataset_json:
        raise FssegError(
            f"{path / 'dataset.json'} lists its files under `dataset`, which fsseg does not read.\n"
            "  Put or link the files into imagesTr and labelsTr, and remove that key."
        )
    return RawDataset(path, dataset_json, structures)


def images_by_case(folder: Path, dataset_json: DatasetContent) -> dict[str, list[Path]]:
    """Return case -> image files (one a channel, in order) of a folder in nnU-Net's naming CASE_0000.nii.gz.

    Raises:
        UsageError: the folder is missing or holds no image.
        FssegError: a case is named like a file, lacks a channel, or has one too many.
    """
    ending = dataset_json["file_ending"]
    channels = len(channel_names(dataset_json))
    if not folder.is_dir():
        raise UsageError(f"Image folder not found: {folder}\n  Give a folder of files named CASE_0000{ending}.")
    cases: dict[str, list[Path]] = {}
    for file in listed(folder, f"*_[0-9][0-9][0-9][0-9]{ending}"):
        cases.setdefault(file.name.removesuffix(ending)[:-5], []).append(file)
    if not cases:
        found = ", ".join(file.name for file in ignored_images(folder, dataset_json)[:_MOST_NAMES])
        raise UsageError(
            f"No image in {folder}{f', but {found}' if found else ''}\n"
            f"  Images are named CASE_0000{ending}, with _0000 for the first channel."
        )
    require_plain_names(cases, folder)
    wanted = [f"{channel:04d}" for channel in range(channels)]
    wrong = [files for files in cases.values() if [_channel(file, ending) for file in files] != wanted]
    if wrong:
        names = ", ".join(file.name for files in wrong[:_MOST_NAMES] for file in files)
        raise FssegError(
            f"{len(wrong)} case(s) in {folder} do not have the {channels} channel(s) {', '.join(wanted)}: {names}\n"
            f"  Images are named CASE_0000{ending}: a case named patient_0007 has the file patient_0007_0000{ending}."
        )
    return cases


def ignored_images(folder: Path, dataset_json: DatasetContent) -> list[Path]:
    """Return the files of a folder that look like images but are not named as nnU-Net names them."""
    ending = dataset_json["file_ending"]
    named = re.compile(rf".*_\d{{4}}{re.escape(ending)}")
    endings = (ending, *_IMAGE_ENDINGS)
    files = (file for file in listed(folder) if file.name.endswith(endings))
    return [file for file in files if not named.fullmatch(file.name)]


def _channel(file: Path, ending: str) -> str:
    return file.name.removesuffix(ending)[-4:]
