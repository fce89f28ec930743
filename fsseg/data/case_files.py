"""Finding the cases of a source dataset, the files of each, and contradictions with its own dataset.json."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from fsseg.data.specs import CASE, FILE_ENDING, LABEL, DatasetSpec, MaskPerStructureLayout, NnunetRawLayout

_CHANNEL = "_0000"


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; `labels` holds one label map under the key "", or a mask per file stem."""

    case: str
    image: Path
    labels: dict[str, Path]


def find_cases(spec: DatasetSpec, folder: Path) -> list[CaseFiles]:
    """Return the cases in `folder`, sorted by name, with those that the spec excludes.

    A case is listed when any of its files exists, so that the checks find a missing image or label map.
    """
    layout = spec.layout
    found = _nnunet_cases(folder) if isinstance(layout, NnunetRawLayout) else _mask_cases(layout, folder)
    return [found[case] for case in sorted(found)]


def contradictions(spec: DatasetSpec, folder: Path) -> list[str]:
    """Return where the dataset's own dataset.json gives a structure another integer than the spec."""
    path = folder / "dataset.json"
    if not isinstance(spec.layout, NnunetRawLayout) or not path.is_file():
        return []
    try:
        theirs = json.loads(path.read_text(encoding="utf-8")).get("labels", {})
    except ValueError as error:
        return [f"{path} is damaged: {error}"]
    problems = []
    for name in spec.annotated:
        ours = {label for label, meant in spec.meanings.items() if name in meant}
        value = theirs.get(name, [])
        if not set(value if isinstance(value, list) else [value]) <= ours:
            problems.append(f"{name} is {sorted(ours, key=int)} in the spec, but {value} in {path}")
    return problems


def _nnunet_cases(folder: Path) -> dict[str, CaseFiles]:
    images, labels = folder / "imagesTr", folder / "labelsTr"
    cases = {path.name.removesuffix(FILE_ENDING) for path in labels.glob(f"*{FILE_ENDING}")}
    # The channel number is the last four digits; any channel tells that the case exists.
    cases |= {path.name.removesuffix(FILE_ENDING)[:-5] for path in images.glob(f"*_[0-9][0-9][0-9][0-9]{FILE_ENDING}")}
    return {
        case: CaseFiles(case, images / f"{case}{_CHANNEL}{FILE_ENDING}", {"": labels / f"{case}{FILE_ENDING}"})
        for case in cases
    }


def second_channel(files: CaseFiles) -> Path | None:
    """Return the image file of a second channel, which an nnU-Net case with several modalities has."""
    if not files.image.name.endswith(_CHANNEL + FILE_ENDING):
        return None
    second = files.image.with_name(files.image.name.replace(_CHANNEL + FILE_ENDING, "_0001" + FILE_ENDING))
    return second if second.exists() else None


def _mask_cases(layout: MaskPerStructureLayout, folder: Path) -> dict[str, CaseFiles]:
    masks: dict[str, dict[str, Path]] = {}
    for _, words in _matches(layout.image, folder):
        masks.setdefault(words["case"], {})
    for path, words in _matches(layout.mask, folder):
        masks.setdefault(words["case"], {})[words["label"]] = path
    return {case: CaseFiles(case, folder / layout.image.replace(CASE, case), masks[case]) for case in masks}


def _matches(pattern: str, folder: Path) -> list[tuple[Path, dict[str, str]]]:
    expression = re.escape(pattern)
    for word in (CASE, LABEL):
        expression = expression.replace(re.escape(word), f"(?P<{word[1:-1]}>[^/]+)")
    found = []
    for path in folder.glob(pattern.replace(CASE, "*").replace(LABEL, "*")):
        match = re.fullmatch(expression, path.relative_to(folder).as_posix())
        if match:
            found.append((path, match.groupdict()))
    return found
