"""What a dataset spec may not say although every key has the right type."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from fsseg.data.layouts import CASE, FILE_ENDING, LABEL, PNG_SLICES, LabelMapLayout, MaskPerStructureLayout
from fsseg.data.side_names import SIDE_LETTERS, SIDE_WORDS, sides_of
from fsseg.data.specs import DatasetSpec

_SPEC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
# Lower snake case; a vertebral level keeps its customary capital (vertebrae_L5).
_STRUCTURE_NAME = re.compile(r"[a-z][a-z0-9]*(_([a-z0-9]+|[CTLS][0-9]+))*")
_RESERVED_NAMES = {"background", "ignore"}
_ABBREVIATED_SIDES = {word: side for word, side in (SIDE_WORDS | SIDE_LETTERS).items() if word != side}


def problems_of_spec(spec: DatasetSpec) -> list[str]:
    """Return what a well-formed spec says wrongly about names, layout and structures."""
    return _problems_of_names(spec) + _problems_of_layout(spec) + _problems_of_structures(spec)


def _problems_of_names(spec: DatasetSpec) -> list[str]:
    problems = []
    for key, name in (("name", spec.name), ("collection", spec.collection)):
        if name is not None and not _SPEC_NAME.fullmatch(name):
            problems.append(f"{key}: letters and digits only, beginning with a letter, got {name!r}")
    number = re.match(r"Dataset(\d{3})_", Path(spec.folder).name)
    if number and spec.dataset_id is not None and int(number[1]) != spec.dataset_id:
        problems.append(f"dataset_id: {spec.dataset_id} does not fit the folder {spec.folder!r}")
    if Path(spec.folder).is_absolute() or ".." in Path(spec.folder).parts:
        problems.append(f"folder: must lie below --root, got {spec.folder!r}")
    return problems


def _problems_of_layout(spec: DatasetSpec) -> list[str]:
    layout = spec.layout
    needed = "file stems as keys" if not spec.has_label_maps else "integers from 1 as keys (0 is background)"
    problems = [
        f"labels: layout {layout.kind} needs {needed}, got {label!r}"
        for label in spec.labels
        if isinstance(label, str) is spec.has_label_maps or (isinstance(label, int) and label < 1)
    ]
    if isinstance(layout, LabelMapLayout):
        return problems + _problems_of_label_map_layout(layout)
    if isinstance(layout, MaskPerStructureLayout):
        return problems + _problems_of_mask_layout(layout)
    return problems


def _problem_of_place(key: str, path: str) -> list[str]:
    if path.startswith("/") or ".." in path.split("/"):
        return [f"layout.{key}: must lie below the folder of the dataset, got {path!r}"]
    return []


def _problems_of_label_map_layout(layout: LabelMapLayout) -> list[str]:
    problems = []
    for key, path, endings in (
        ("image", layout.image, (FILE_ENDING, ".nii", "/")),
        ("labels", layout.labels, (FILE_ENDING, ".nii", PNG_SLICES)),
    ):
        problems += _problem_of_place(key, path)
        if CASE not in path or LABEL in path or not path.endswith(endings) or "**" in path:
            listing = ", ".join(endings)
            problems.append(
                f"layout.{key}: must hold {CASE}, end in one of {listing}, and not hold {LABEL} or **, got {path!r}"
            )
    try:
        re.compile(layout.case)
    except re.error as error:
        problems.append(f"layout.case: no regular expression ({error}), got {layout.case!r}")
    if layout.labels.endswith(PNG_SLICES) and not layout.image.endswith("/"):
        problems.append(
            f"layout.labels: PNG slices need a DICOM series as image (a path ending in /), got {layout.image!r}"
        )
    return problems


def _problems_of_mask_layout(layout: MaskPerStructureLayout) -> list[str]:
    problems = []
    for key, pattern, words in (("image", layout.image, (CASE,)), ("mask", layout.mask, (CASE, LABEL))):
        problems += _problem_of_place(key, pattern)
        if any(pattern.count(word) != 1 for word in words) or not pattern.endswith(FILE_ENDING):
            needed = " and ".join(words)
            problems.append(f"layout.{key}: must hold {needed} exactly once and end in {FILE_ENDING}, got {pattern!r}")
    return problems


def _problems_of_structures(spec: DatasetSpec) -> list[str]:
    in_labels = {structure for structures in spec.meanings.values() for structure in structures}
    named = {part for structure in in_labels for part in spec.parts(structure)}
    problems = [problem for name in sorted(in_labels) if (problem := _problem_of_structure_name(name))]
    problems += [f"labels: {label!r} names no structure" for label, names in spec.meanings.items() if not names]
    problems += _problems_of_sides(spec, in_labels)
    problems += _unknown("annotated", spec.annotated, named, "labels")
    for name in sorted(named - set(spec.annotated)):
        problems.append(f"labels name {name!r}, but it is not in annotated; add it there or take its label out")
    for key in ("partial_extent", "definitions", "conflicts"):
        problems += _unknown(key, getattr(spec, key), spec.annotated, "annotated")
    for key in ("annotated", "partial_extent", "split_sides"):
        values = getattr(spec, key)
        problems += [f"{key}: {name!r} occurs twice" for name in sorted(set(values)) if values.count(name) > 1]
    return problems


def _problems_of_sides(spec: DatasetSpec, in_labels: set[str]) -> list[str]:
    problems = _unknown("split_sides", spec.split_sides, in_labels, "labels")
    problems += [
        f"split_sides: {name!r} is one side already; name what covers both, such as kidney"
        for name in spec.split_sides
        if sides_of((name,)).of
    ]
    problems += [
        f"split_sides: labels must not name {part!r} besides {name!r}, which is split into it"
        for name in spec.split_sides
        for part in spec.parts(name)
        if part in in_labels
    ]
    if spec.split_sides and spec.modality.casefold() != "ct":
        problems.append(f"split_sides: needs CT, because the body is found by its HU, got modality {spec.modality!r}")
    return problems


def _problem_of_structure_name(name: str) -> str | None:
    if name in _RESERVED_NAMES:
        return f"labels: {name!r} is reserved; name only structures, background is what no label names"
    if not _STRUCTURE_NAME.fullmatch(name):
        return f"labels: structure names are lower snake case such as kidney_left, got {name!r}"
    for word in name.split("_"):
        if word in _ABBREVIATED_SIDES:
            return f"labels: write the side out ({_ABBREVIATED_SIDES[word]!r} instead of {word!r}), got {name!r}"
    return None


def _unknown(key: str, received: Iterable[str], allowed: Iterable[str], where: str) -> list[str]:
    names = sorted(set(allowed))
    problems = []
    for name in received:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            advice = f"; did you mean {nearest[0]!r}?" if nearest else f" (there: {', '.join(names)})"
            problems.append(f"{key}: {name!r} is not in {where}{advice}")
    return problems
