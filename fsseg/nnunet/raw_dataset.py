"""Files of an nnU-Net raw dataset or image folder, by case."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import read_json
from fsseg.data.structures import Structures, load_structures


@dataclass(frozen=True)
class RawDataset:
    """An nnU-Net raw dataset: its cases, their files, and what its integers mean."""

    path: Path
    dataset_json: dict[str, Any]
    structures: Structures

    @property
    def cases(self) -> tuple[str, ...]:
        """Case identifiers of imagesTr, sorted."""
        return tuple(images_by_case(self.path / "imagesTr", self.dataset_json))

    def images(self, case: str) -> list[Path]:
        """Return the image files of a case, one a channel."""
        return images_by_case(self.path / "imagesTr", self.dataset_json)[case]

    def label(self, case: str) -> Path:
        """Return the label map of a case; raise `FssegError` if it is missing."""
        file = self.path / "labelsTr" / f"{case}{self.dataset_json['file_ending']}"
        if not file.is_file():
            raise FssegError(f"Label map of case {case!r} is missing: {file}")
        return file


def read_raw_dataset(path: Path) -> RawDataset:
    """Read an nnU-Net raw dataset folder; raise `FssegError` if it is incomplete."""
    structures = load_structures(path)
    return RawDataset(path, read_json(path / "dataset.json"), structures)


def images_by_case(folder: Path, dataset_json: dict[str, Any]) -> dict[str, list[Path]]:
    """Return case -> image files (one a channel, in order) of a folder in nnU-Net's naming CASE_0000.nii.gz.

    Raises:
        UsageError: the folder is missing or holds no image.
        FssegError: a case lacks a channel.
    """
    ending = dataset_json["file_ending"]
    channels = len(dataset_json.get("channel_names", {"0": ""}))
    if not folder.is_dir():
        raise UsageError(f"Image folder not found: {folder}\n  Give a folder of files named CASE_0000{ending}.")
    cases: dict[str, list[Path]] = {}
    for file in sorted(folder.glob(f"*_[0-9][0-9][0-9][0-9]{ending}")):
        cases.setdefault(file.name.removesuffix(ending)[:-5], []).append(file)
    if not cases:
        raise UsageError(
            f"No image in {folder}\n  Images are named CASE_0000{ending}, with _0000 for the first channel."
        )
    incomplete = [case for case, files in cases.items() if len(files) != channels]
    if incomplete:
        raise FssegError(f"{len(incomplete)} case(s) in {folder} do not have {channels} channel(s): {incomplete[:5]}")
    return cases
