"""What a dataset spec may not say although every key has the right type."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from fsseg.data.specs import CASE, FILE_ENDING, LABEL, DatasetSpec, NnunetRawLayout

_SPEC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
# Lower snake case; a vertebral level keeps its customary capital (vertebrae_L5).
_STRUCTURE_NAME = re.compile(r"[a-z][a-z0-9]*(_([a-z0-9]+|[CTLS][0-9]+))*")
_RESERVED_NAMES = {"background", "ignore"}
_ABBREVIATED_SIDES = {"l": "left", "r": "right", "lt": "left", "rt": "right"}


def problems_of_spec(spec: DatasetSpec) -> list[str]:
    """Return what a well-formed spec says wrongly about names, layout and structures."""
    return _problems_of_names(spec) + _problems_of_layout(spec) + _problems_of_structures(spec)


def _problems_of_names(spec: DatasetSpec) -> list[str]:
    problems = []
    if not _SPEC_NAME.fullmatch(spec.name):
        problems.append(f"name: letters and digits only, beginning with a letter, got {spec.name!r}")
    number = re.match(r"Dataset(\d{3})_", Path(spec.folder).name)
    if number and spec.dataset_id is not None and int(number[1]) != spec.dataset_id:
        problems.append(f"dataset_id: {spec.dataset_id} does not fit the folder {spec.folder!r}")
    if Path(spec.folder).is_absolute() or ".." in Path(spec.folder).parts:
        problems.append(f"folder: must lie below --root, got {spec.folder!r}")
    return problems


def _problems_of_layout(spec: DatasetSpec) -> list[str]:
    if isinstance(spec.layout, NnunetRawLayout):
        return [
            f"labels: layout nnunet_raw needs integers from 1 as keys (0 is background), got {label!r}"
            for label in spec.labels
            if not isinstance(label, int) or label < 1
        ]
    problems = []
    for key, pattern, words in (
        ("image", spec.layout.image, (CASE,)),
        ("mask", spec.layout.mask, (CASE, LABEL)),
    ):
        if any(pattern.count(word) != 1 for word in words) or not pattern.endswith(FILE_ENDING):
            needed = " and ".join(words)
            problems.append(f"layout.{key}: must hold {needed} exactly once and end in {FILE_ENDING}, got {pattern!r}")
    return problems + [
        f"labels: layout mask_per_structure needs file stems as keys, got {label!r}"
        for label in spec.labels
        if not isinstance(label, str)
    ]


def _problems_of_structures(spec: DatasetSpec) -> list[str]:
    named = {structure for structures in spec.meanings.values() for structure in structures}
    problems = [problem for name in sorted(named) if (problem := _problem_of_structure_name(name))]
    problems += [f"labels: {label!r} names no structure" for label, names in spec.meanings.items() if not names]
    problems += _unknown("annotated", spec.annotated, named, "labels")
    for name in sorted(named - set(spec.annotated)):
        problems.append(f"labels name {name!r}, but it is not in annotated; add it there or take its label out")
    for key in ("partial_extent", "definitions", "conflicts"):
        problems += _unknown(key, getattr(spec, key), spec.annotated, "annotated")
    for key in ("annotated", "partial_extent"):
        values = getattr(spec, key)
        problems += [f"{key}: {name!r} occurs twice" for name in sorted(set(values)) if values.count(name) > 1]
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
