"""Dataset specs: a YAML says where the files of a dataset lie, what its labels mean and what it annotates."""

import re
from typing import Annotated, Literal

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.data.layouts import LabelMapLayout, MaskPerStructureLayout, NnunetRawLayout

SIDES = ("right", "left")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z0-9])|(?<=[A-Z])(?=[A-Z][a-z])")


class DatasetSpec(StrictModel):
    """What one source dataset holds.

    Attributes:
        name: name of the source, letters and digits; the joined case names start with it.
        collection: name of the collection, where several specs read parts of it; they share their channels.
        dataset_id: nnU-Net's number of the source folder, where it has one.
        folder: folder of the dataset below `--root`.
        labels: integer of the label map, or file stem of the mask -> canonical structure, or several at once.
        split_sides: structures whose label covers both sides of the body; `kidney` becomes `kidney_right` and
            `kidney_left`.
        annotated: the structures that are truly annotated; what is absent here is unknown, not background.
        partial_extent: structures contoured only on part of their inferior-superior extent.
        definitions: structure -> what exactly is contoured.
        conflicts: structure -> `same` or `separate`, where another dataset defines it differently.
        known_issues: what a user of the collection should know, and what of this spec is not certain.
        exclude: case -> reason why it is left out.
        incomplete_cases: `leave_out` where the collection ships images without labels (a test part) or labels without
            images; otherwise such a case is refused.
    """

    name: str
    collection: str | None = None
    dataset_id: int | None = Field(default=None, ge=1, le=999)
    folder: str
    modality: str
    licence: str
    citation: str | None = None
    homepage: str | None = None
    layout: Annotated[NnunetRawLayout | LabelMapLayout | MaskPerStructureLayout, Field(discriminator="kind")]
    labels: dict[int | str, str | tuple[str, ...]]
    split_sides: tuple[str, ...] = ()
    annotated: tuple[str, ...] = Field(min_length=1)
    partial_extent: tuple[str, ...] = ()
    definitions: dict[str, str] = Field(default_factory=dict)
    conflicts: dict[str, Literal["same", "separate"]] = Field(default_factory=dict)
    known_issues: tuple[str, ...] = ()
    exclude: dict[str, str] = Field(default_factory=dict)
    incomplete_cases: Literal["refuse", "leave_out"] = "refuse"

    @property
    def meanings(self) -> dict[int | str, tuple[str, ...]]:
        """Return label -> the structures it stands for, always as a tuple, before any is split into sides."""
        return {label: (value,) if isinstance(value, str) else value for label, value in self.labels.items()}

    def parts(self, structure: str) -> tuple[str, ...]:
        """Return what a structure named in `labels` is annotated as: its right and left side, or itself."""
        return tuple(f"{structure}_{side}" for side in SIDES) if structure in self.split_sides else (structure,)

    @property
    def has_label_maps(self) -> bool:
        """Return whether a case has one label map with integers, not a mask per structure."""
        return not isinstance(self.layout, MaskPerStructureLayout)

    @property
    def snake_name(self) -> str:
        """Return the name of the collection in lower snake case: HeadNeckNerve -> head_neck_nerve, KiTS21 -> kits21."""
        return _WORD_START.sub("_", self.collection or self.name).lower()
