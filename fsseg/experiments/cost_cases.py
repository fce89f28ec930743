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
_ASSUMED_MM3 = 1.0  # a voxel of an image that is not there


@dataclass(frozen=True)
class TestCases:
    """The test cases of a target.

    Attributes:
        number: how many there are.
        sizes_mm: extents of some as x, y, z.
        voxels: of an image, on average.
        assumed: whether the sizes are assumed.
    """

    number: int
    sizes_mm: Sequence[tuple[float, ...]]
    voxels: float
    assumed: bool


def find_test_cases(opened: OpenTable, name: str) -> TestCases:
    """Return the test cases of a target.

    Raises:
        UsageError: a spec does not exist, or is wrong.
        FssegError: an image is damaged.
    """
    target = opened.table.targets[name]
    dataset = opened.table.datasets[target.dataset]
    images = _images(opened, target.dataset)
    chosen = [case for case in target.chosen(target.test, list(images)) if case in images]
    if chosen:
        grids = [check_header(images[case], "either").grid for case in chosen[:: -(-len(chosen) // _LOOKED_AT)]]
        sizes = [tuple(n * mm for n, mm in zip(grid.size_xyz, grid.spacing_mm, strict=True)) for grid in grids]
        return TestCases(len(chosen), sizes, fmean(math.prod(grid.size_xyz) for grid in grids), assumed=False)
    size = FIELD_OF_VIEW_ZYX_MM[::-1] if opened.table.phantoms else dataset.case_mm
    return TestCases(target.test.number or 0, [size], math.prod(size) / _ASSUMED_MM3, assumed=not opened.table.phantoms)


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
