"""The pictures of the demo's report: CT slices of test cases with the reference and the predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from fsseg.data.images import read_image
from fsseg.demo.files import DemoFiles
from fsseg.demo.methods import METHODS, STRUCTURES
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.evaluation.label_maps import ORIENTATION, read_label_map
from fsseg.reporting.html import Picture
from fsseg.reporting.overlays import comparison_figure, overlay_figure

_WINDOW_HU = (-160.0, 240.0)
_COMPARED_CASES = 2
_SHOWN_METHOD = METHODS[-1]

Array = np.ndarray[Any, Any]


def overlay_pictures(files: DemoFiles) -> list[Picture]:
    """Draw one method on the first test case, and all methods side by side on the first two.

    The first test cases by name are taken, not the best ones.
    """
    first, *others = files.test_cases[:_COMPARED_CASES]
    return [_one_method(files, first), *(_all_methods(files, case) for case in (first, *others))]


def _one_method(files: DemoFiles, case: str) -> Picture:
    image, spacing_zyx_mm = _read_image(files.image(case))
    reference = _masks(files.labels, case)
    prediction = _masks(files.predictions(_SHOWN_METHOD), case)
    title = f"{case}: {_SHOWN_METHOD.label}"
    return Picture(
        overlay_figure(image, reference, prediction, spacing_zyx_mm, STRUCTURES, _WINDOW_HU, title),
        f"{_SHOWN_METHOD.label} on the first test case: axial, coronal and sagittal slice; reference as outline,"
        " prediction as fill.",
        f"three slices of {case} with reference and prediction",
    )


def _all_methods(files: DemoFiles, case: str) -> Picture:
    image, spacing_zyx_mm = _read_image(files.image(case))
    predictions = {method.label: _masks(files.predictions(method), case) for method in METHODS}
    return Picture(
        comparison_figure(image, _masks(files.labels, case), predictions, spacing_zyx_mm, _WINDOW_HU, case),
        f"All methods on the same slices of {case}.",
        f"slices of {case}: the reference and the prediction of each method",
    )


def _read_image(path: Path) -> tuple[Array, tuple[float, float, float]]:
    """Return a CT as (D, H, W) HU in RAS orientation, and its spacing in z, y, x in mm."""
    image = SimpleITK.DICOMOrient(read_image(path), ORIENTATION)
    x_mm, y_mm, z_mm = image.GetSpacing()
    return SimpleITK.GetArrayFromImage(image), (z_mm, y_mm, x_mm)


def _masks(folder: Path, case: str) -> dict[str, Array]:
    """Return the mask of each structure of the demo in a label map of `folder`."""
    labels = open_label_folder(folder)
    label_map = read_label_map(labels.files[case], labels.structures)
    return {name: label_map.mask(labels.structures.integers[name]) for name in STRUCTURES}
