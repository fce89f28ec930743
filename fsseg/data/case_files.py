"""Finding the cases of a source dataset, the files of each, and contradictions with its own dataset.json."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json
from fsseg.data.case_names import misread_names
from fsseg.data.dataset_json import is_of_nnunet_v1, named_labels
from fsseg.data.folder_listing import listed
from fsseg.data.layouts import (
    CASE,
    FILE_ENDING,
    LABEL,
    PNG_SLICES,
    LabelMapLayout,
    MaskPerStructureLayout,
    NnunetRawLayout,
)
from fsseg.data.specs import DatasetSpec

_CHANNEL = "_0000"
_MOST_NAMES = 5


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; `labels` holds one label map under the key "", or a mask per file stem.

    A folder as image holds a DICOM series, a folder as label map one PNG per slice.
    """

    case: str
    image: Path
    labels: dict[str, Path]

    @property
    def is_complete(self) -> bool:
        """Return whether the image and the label map, or at least one mask, exist."""
        return self.image.exists() and bool(self.labels) and all(path.exists() for path in self.labels.values())


@dataclass
class FoundCases:
    """The cases of a dataset in order of their names, what is wrong with the folder, and what is worth knowing."""

    cases: list[CaseFiles] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_cases(spec: DatasetSpec, folder: Path) -> FoundCases:
    """Return the cases in `folder`, with those that the spec excludes.

    A case is listed when any of its files exists, so that the checks find a missing image or label map, unless the spec
    leaves such cases out.
    """
    result = FoundCases()
    if isinstance(spec.layout, NnunetRawLayout):
        found = _nnunet_cases(folder)
    elif isinstance(spec.layout, LabelMapLayout):
        found = _label_map_cases(spec.layout, folder, result.problems)
    else:
        found = _mask_cases(spec.layout, folder)
    result.cases = [found[case] for case in sorted(found)]
    misread = misread_names(case for case in sorted(found) if case not in spec.exclude)
    result.problems += [f"case {case} has a name that ends like that of a NIfTI file" for case in misread]
    if spec.incomplete_cases == "leave_out":
        _leave_out_incomplete(result)
    return result


def contradictions(spec: DatasetSpec, folder: Path) -> list[str]:
    """Return where the dataset's own dataset.json gives a structure another integer than the spec."""
    path = folder / "dataset.json"
    if not isinstance(spec.layout, NnunetRawLayout) or not path.is_file():
        return []
    try:
        theirs = _their_labels(path)
    except FssegError as error:
        return [str(error)]
    problems = []
    for name in spec.annotated:
        ours = {int(label) for label, meant in spec.meanings.items() if name in meant}
        values = theirs.get(name, ())
        if not set(values) <= ours:
            value = values[0] if len(values) == 1 else list(values)
            problems.append(f"{name} is {sorted(ours)} in the spec, but {value} in {path}")
    return problems


def _their_labels(path: Path) -> dict[str, tuple[int, ...]]:
    dataset_json = read_json(path, ["labels"])
    if is_of_nnunet_v1(dataset_json["labels"]):  # the folders are the same there, and the spec says the rest
        return {name: (int(label),) for label, name in dataset_json["labels"].items()}
    return named_labels(dataset_json, path)


def second_channel(files: CaseFiles) -> Path | None:
    """Return the image file of a second channel, which an nnU-Net case with several modalities has."""
    if not files.image.name.endswith(_CHANNEL + FILE_ENDING):
        return None
    second = files.image.with_name(files.image.name.replace(_CHANNEL + FILE_ENDING, "_0001" + FILE_ENDING))
    return second if second.exists() else None


def no_case_found(spec: DatasetSpec, folder: Path) -> str:
    """Return what to say of a folder in which `find_cases` finds nothing: images of other formats are named."""
    text = f"no case found in {folder} with layout {spec.layout.kind}"
    others = {file.suffix for file in folder.glob("imagesTr/*_0000.*") if not file.name.endswith(FILE_ENDING)}
    if not isinstance(spec.layout, NnunetRawLayout) or not others:
        return text
    return (
        f"{text}: its images end in {', '.join(sorted(others))}, and {FILE_ENDING} files are assembled; convert them,"
        " or give the dataset to `fsseg preprocess` as it is"
    )


def _nnunet_cases(folder: Path) -> dict[str, CaseFiles]:
    images, labels = folder / "imagesTr", folder / "labelsTr"
    cases = {path.name.removesuffix(FILE_ENDING) for path in listed(labels, f"*{FILE_ENDING}")}
    # The channel number is the last four digits; any channel tells that the case exists.
    cases |= {
        path.name.removesuffix(FILE_ENDING)[:-5] for path in listed(images, f"*_[0-9][0-9][0-9][0-9]{FILE_ENDING}")
    }
    return {
        case: CaseFiles(case, images / f"{case}{_CHANNEL}{FILE_ENDING}", {"": labels / f"{case}{FILE_ENDING}"})
        for case in cases
    }


def _label_map_cases(layout: LabelMapLayout, folder: Path, problems: list[str]) -> dict[str, CaseFiles]:
    patterns = (layout.image, layout.labels.removesuffix(PNG_SLICES.lstrip("/")))
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for pattern, paths in zip(patterns, (images, labels), strict=True):
        for path, words in _matches(pattern, folder, layout.case):
            other = paths.setdefault(words["case"], path)
            if other != path:
                problems.append(f"case {words['case']} has two files: {other} and {path}")
    return {
        case: CaseFiles(
            case,
            images.get(case, folder / patterns[0].replace(CASE, case)),
            {"": labels.get(case, folder / patterns[1].replace(CASE, case))},
        )
        for case in images.keys() | labels.keys()
    }


def _mask_cases(layout: MaskPerStructureLayout, folder: Path) -> dict[str, CaseFiles]:
    masks: dict[str, dict[str, Path]] = {}
    for _, words in _matches(layout.image, folder):
        masks.setdefault(words["case"], {})
    for path, words in _matches(layout.mask, folder):
        masks.setdefault(words["case"], {})[words["label"]] = path
    return {case: CaseFiles(case, folder / layout.image.replace(CASE, case), masks[case]) for case in masks}


def _matches(pattern: str, folder: Path, case: str = "[^/]+") -> list[tuple[Path, dict[str, str]]]:
    is_folder = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    expression = re.escape(pattern).replace(r"\*", "[^/]*").replace(re.escape(LABEL), "(?P<label>[^/]+)")
    expression = expression.replace(re.escape(CASE), f"(?P<case>{case})", 1).replace(re.escape(CASE), "(?P=case)")
    found = []
    for path in listed(folder, pattern.replace(CASE, "*").replace(LABEL, "*")):
        relative = path.relative_to(folder)
        match = re.fullmatch(expression, relative.as_posix())
        if match and path.is_dir() is is_folder:
            found.append((path, match.groupdict()))
    return found


def _leave_out_incomplete(found: FoundCases) -> None:
    incomplete = [files.case for files in found.cases if not files.is_complete]
    # Where no case is complete a path is wrong; then the checks tell which files they miss.
    if incomplete and len(incomplete) < len(found.cases):
        names = ", ".join(incomplete[:_MOST_NAMES]) + (", ..." if len(incomplete) > _MOST_NAMES else "")
        found.warnings.append(f"cases without image or without labels are left out ({len(incomplete)}): {names}")
        found.cases = [files for files in found.cases if files.is_complete]
