"""How large the test cases of a target are: by the headers of some where there are data, else as the table says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fsseg.config.shipped_files import SPECS
from fsseg.data.case_files import find_cases
from fsseg.data.image_header import check_header
from fsseg.data.spec_loading import load_spec
from fsseg.demo.phantom_body import FIELD_OF_VIEW_ZYX_MM
from fsseg.experiments.open_table import OpenTable
from fsseg.nnunet.raw_dataset import read_raw_dataset

_LOOKED_AT = 5
_HELD_OUT_SHARE = 0.2  # of the cases, by one of five folds
_ASSUMED_MM = 1.0  # a voxel of an image that is not there
_PHANTOM_MM = 4.0  # and of a phantom


@dataclass(frozen=True)
class ImageSize:
    """Voxels of an image along x, y, z, and their size."""

    size_xyz: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """What it covers along x, y, z."""
        return tuple(voxels * mm for voxels, mm in zip(self.size_xyz, self.spacing_mm, strict=True))


@dataclass(frozen=True)
class TestCases:
    """The test cases of a target.

    Attributes:
        number: how many there are.
        sizes: of some of them.
        assumed: whether the sizes are assumed.
    """

    number: int
    sizes: Sequence[ImageSize]
    assumed: bool

    @property
    def middle(self) -> ImageSize:
        """The image of middle size."""
        return sorted(self.sizes, key=lambda size: math.prod(size.extent_mm))[len(self.sizes) // 2]

    @property
    def voxels(self) -> float:
        """Voxels of an image, on average."""
        return fmean(math.prod(size.size_xyz) for size in self.sizes)


def find_test_cases(opened: OpenTable, name: str) -> TestCases:
    """Return the test cases of a target.

    Raises:
        UsageError: a spec does not exist, or is wrong.
        FssegError: an image is damaged.
    """
    target = opened.table.targets[name]
    images = _images(opened, target.dataset)
    held_out = list(images) if target.test.held_out else ()  # which these are, only the base says
    chosen = [case for case in target.chosen(target.test, list(images), held_out) if case in images]
    if chosen:
        number = math.ceil(_HELD_OUT_SHARE * len(chosen)) if held_out else len(chosen)
        grids = [check_header(images[case], "either").grid for case in chosen[:: -(-len(chosen) // _LOOKED_AT)]]
        return TestCases(number, [ImageSize(grid.size_xyz, grid.spacing_mm) for grid in grids], assumed=False)
    phantoms = opened.table.phantoms is not None
    extent, mm = (FIELD_OF_VIEW_ZYX_MM[::-1], _PHANTOM_MM) if phantoms else (_case_mm(opened, name), _ASSUMED_MM)
    size = ImageSize(tuple(max(1, round(e / mm)) for e in extent), (mm,) * len(extent))
    return TestCases(target.test.number or 0, [size], assumed=not phantoms)


def _case_mm(opened: OpenTable, name: str) -> tuple[float, ...]:
    return opened.table.datasets[opened.table.targets[name].dataset].case_mm


def _images(opened: OpenTable, name: str) -> dict[str, Path]:
    """Return case -> image file of those that are there."""
    dataset, place = opened.table.datasets[name], opened.place
    if (folder := place.dataset(dataset)).is_dir():
        return {case: files[0] for case, files in read_raw_dataset(folder).images_of_cases().items()}
    if opened.table.phantoms is not None:
        return {}
    images = {}
    for spec in (load_spec(place.found(word, SPECS)) for word in dataset.specs):
        for files in find_cases(spec, place.root / spec.folder).cases if (place.root / spec.folder).is_dir() else ():
            if files.image.is_file():  # a series has no header of its own
                images[f"{spec.name}_{files.case}"] = files.image
    return images
