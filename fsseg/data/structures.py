"""structures.json: what each integer of a dataset means, and what each case annotates.

Unknown is not background: a structure that a case does not list in `annotated` takes no part in loss, sampling,
validation or evaluation of that case, and a structure with a z-extent only takes part inside it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from fsseg.config.base import StrictModel, validated
from fsseg.config.errors import FssegError, UsageError, shown
from fsseg.config.json_files import read_json, write_json
from fsseg.data.contents import DatasetContent
from fsseg.data.dataset_json import BACKGROUND, HIGHEST_LABEL, LabelsJson, named_labels, read_dataset_json
from fsseg.data.folder_listing import listed

STRUCTURES_NAME = "structures.json"
SEPARATOR = "__"  # btcv__liver is what one collection means by liver, as a structure of its own
IGNORE = "ignore"  # nnU-Net's label for voxels that nobody annotated; structures.json says the same case by case
FORMAT_VERSION = 1


_Integer = Annotated[int, Field(ge=1, le=HIGHEST_LABEL)]
_Extent = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


class CaseAnnotation(StrictModel):
    """What one case annotates.

    Attributes:
        source: name of the dataset the case comes from.
        collection: the collection that several sources are parts of; None where the source is a whole one.
        annotated: structures that were contoured in this case (an absent one is then truly absent).
        z_extent: structure -> half-open slice range [first, last) along the inferior-superior axis, index 0 the
            most inferior slice, for structures contoured only on part of their extent; outside it they are unknown.
    """

    source: str
    collection: str | None = None
    annotated: tuple[str, ...]
    z_extent: dict[str, _Extent] = Field(default_factory=dict)

    def subset(self, names: Iterable[str]) -> "CaseAnnotation":
        """Return the same case reduced to some structures, in the given order."""
        annotated = tuple(name for name in names if name in self.annotated)
        extents = {name: extent for name, extent in self.z_extent.items() if name in annotated}
        return self.model_copy(update={"annotated": annotated, "z_extent": extents})


class Structures(StrictModel):
    """The structures of a dataset: integers of the label map per structure, annotation per case.

    One integer of the label map stands for one occurring combination of structures, so a structure is the union
    of its integers. The order of `integers` is the channel order everywhere. Label maps may hold integers up to
    `highest_integer` that belong to none of the listed structures, after `subset`. Each of the `duplicates` is a group
    of cases that are the same image; a split that has them on both sides tests on what was trained on.
    """

    format_version: int = FORMAT_VERSION
    integers: dict[str, Annotated[tuple[_Integer, ...], Field(min_length=1)]]
    highest_integer: int = Field(default=0, ge=0, le=HIGHEST_LABEL)
    cases: dict[str, CaseAnnotation] = Field(default_factory=dict)
    # Files of fsseg 0.1 say "twins". Unfinished trainings know their data by a hash in which it still does.
    duplicates: tuple[tuple[str, ...], ...] = Field(
        default=(), validation_alias=AliasChoices("duplicates", "twins"), serialization_alias="twins"
    )

    @field_validator("integers")
    @classmethod
    def _are_no_background(cls, integers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        if BACKGROUND in integers:
            raise ValueError(f"no structure can be called {BACKGROUND}, which is what no structure covers")
        return integers

    @field_validator("cases")
    @classmethod
    def _annotate_what_has_integers(
        cls, cases: dict[str, CaseAnnotation], earlier: ValidationInfo
    ) -> dict[str, CaseAnnotation]:
        known = set(earlier.data.get("integers", ()))
        unknown = [(case, name) for case, own in cases.items() for name in own.annotated if name not in known]
        if known and unknown:
            case, name = unknown[0]
            raise ValueError(f"{shown(case)} annotates {shown(name)}, which `integers` does not list")
        return cases

    @property
    def names(self) -> tuple[str, ...]:
        """Structure names in channel order."""
        return tuple(self.integers)

    def table(self) -> np.ndarray:
        """Return the lookup table (integers + 1, C) of bool: row `i` says which structures integer `i` belongs to."""
        table = np.zeros((self.highest + 1, len(self.integers)), dtype=bool)
        for channel, values in enumerate(self.integers.values()):
            table[list(values), channel] = True
        return table

    @property
    def integers_sha256(self) -> str:
        """Hash of what the integers mean."""
        return hashlib.sha256(json.dumps(self.integers, sort_keys=True).encode()).hexdigest()

    def overlapping(self) -> list[tuple[str, str]]:
        """Return the pairs of structures that share an integer, such as (liver, liver_tumour)."""
        pairs = combinations(self.integers.items(), 2)
        return [(first, second) for (first, ours), (second, theirs) in pairs if set(ours) & set(theirs)]

    def annotation(self, case: str) -> CaseAnnotation:
        """Return what `case` annotates; raise `FssegError` for a case that structures.json does not know."""
        if case not in self.cases:
            raise FssegError(
                f"Case {case!r} is not listed in {STRUCTURES_NAME}, so what it annotates is unknown.\n"
                "  Assemble the dataset again with `fsseg assemble`, or remove the case."
            )
        return self.cases[case]

    def subset(self, names: tuple[str, ...]) -> "Structures":
        """Return the same dataset reduced to some structures, in the given order; integers stay as they are."""
        cases = {case: annotation.subset(names) for case, annotation in self.cases.items()}
        integers = {name: self.integers[name] for name in names}
        return self.model_copy(update={"integers": integers, "highest_integer": self.highest, "cases": cases})

    @property
    def highest(self) -> int:
        """The highest integer of the label maps."""
        return max([self.highest_integer, *(max(values) for values in self.integers.values())])

    def save(self, folder: Path) -> None:
        """Write structures.json into `folder`."""
        write_json(folder / STRUCTURES_NAME, self.model_dump(mode="json"))


def load_structures(folder: Path) -> Structures:
    """Read the structures of an nnU-Net raw dataset, preprocessed dataset or model folder.

    structures.json is the truth where it exists. A plain nnU-Net dataset has none: then every label or region of
    dataset.json counts as annotated in every case.

    Raises:
        FssegError: neither file exists, or one is damaged.
        UsageError: structures.json is of a newer format, or has wrong keys or values.
    """
    path, definition = folder / STRUCTURES_NAME, folder / "dataset.json"
    if path.is_file():
        content = read_json(path)
        _require_readable_format(content, path)
        return validated(Structures, content, str(path))
    if not definition.is_file():
        raise FssegError(
            f"No {STRUCTURES_NAME} and no dataset.json in {folder}\n"
            "  Give the folder of an nnU-Net raw dataset, for example $nnUNet_raw/Dataset901_HeadNeck."
        )
    return structures_of_dataset_json(read_dataset_json(definition, LabelsJson), folder)


def _require_readable_format(content: dict[str, Any], path: Path) -> None:
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UsageError(
            f"{path} has format {version}, this fsseg reads up to {FORMAT_VERSION}.\n  Install a newer fsseg."
        )


def structures_of_dataset_json(dataset_json: DatasetContent, folder: Path) -> Structures:
    """Derive structures from a plain nnU-Net dataset.json, whose labels are all annotated in all cases of `folder`.

    Raises:
        FssegError: its labels are not those of nnU-Net v2.
    """
    labels = named_labels(dataset_json, folder / "dataset.json")
    integers = {name: values for name, values in labels.items() if name != IGNORE and values != (0,)}
    ending = dataset_json.get("file_ending", ".nii.gz")
    source = str(dataset_json.get("name", folder.name))
    files = listed(folder / "labelsTr", f"*{ending}")
    annotation = CaseAnnotation(source=source, annotated=tuple(integers))
    return Structures(integers=integers, cases={file.name.removesuffix(ending): annotation for file in files})


def duplicates_of(cases: Iterable[str], duplicates: Iterable[Sequence[str]]) -> set[str]:
    """Return the other cases that are the same image as one of `cases`, by the groups of such cases."""
    known = set(cases)
    return {case for group in duplicates if known.intersection(group) for case in group} - known
