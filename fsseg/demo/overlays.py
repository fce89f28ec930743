"""The pictures of the demo's report: CT slices of test cases with the reference and the predictions."""

from fsseg.demo.files import DemoFiles
from fsseg.demo.methods import METHODS, STRUCTURES
from fsseg.evaluation.case_volumes import CaseVolumes, read_case_volumes
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.reporting.html import Picture
from fsseg.reporting.overlays import comparison_figure, overlay_figure

_COMPARED_CASES = 2
_SHOWN_METHOD = METHODS[-1]


def overlay_pictures(files: DemoFiles) -> list[Picture]:
    """Draw one method on the first test case, and all methods side by side on the first two.

    The first test cases by name are taken, not the best ones.
    """
    cases = {case: _volumes(files, case) for case in files.test_cases[:_COMPARED_CASES]}
    first = next(iter(cases))
    return [_one_method(first, cases[first]), *(_all_methods(case, volumes) for case, volumes in cases.items())]


def _volumes(files: DemoFiles, case: str) -> CaseVolumes:
    predictions = {method.label: open_label_folder(files.predictions(method)) for method in METHODS}
    return read_case_volumes(files.image(case), open_label_folder(files.labels), predictions, case, STRUCTURES)


def _one_method(name: str, case: CaseVolumes) -> Picture:
    label = _SHOWN_METHOD.label
    return Picture(
        overlay_figure(
            case.image,
            case.reference,
            case.predictions[label],
            case.spacing_zyx_mm,
            STRUCTURES,
            case.window,
            f"{name}: {label}",
        ),
        f"{label} on the first test case: axial, coronal and sagittal slice; reference as outline, prediction as fill.",
        f"three slices of {name} with reference and prediction",
    )


def _all_methods(name: str, case: CaseVolumes) -> Picture:
    return Picture(
        comparison_figure(case.image, case.reference, case.predictions, case.spacing_zyx_mm, case.window, name),
        f"All methods on the same slices of {name}.",
        f"slices of {name}: the reference and the prediction of each method",
    )
