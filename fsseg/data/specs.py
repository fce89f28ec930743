"""Dataset specs: a YAML says where the files of a dataset lie, what its labels mean and what it annotates."""

import re
from typing import Annotated, Literal

from pydantic import Field

from fsseg.config.base import StrictModel

CASE = "{case}"
LABEL = "{label}"
FILE_ENDING = ".nii.gz"


class NnunetRawLayout(StrictModel):
    """An nnU-Net raw folder: imagesTr/<case>_0000.nii.gz, and labelsTr/<case>.nii.gz with integers."""

    kind: Literal["nnunet_raw"]


class MaskPerStructureLayout(StrictModel):
    """One image and one mask file per structure; masks may overlap, an absent mask means not annotated.

    Attributes:
        image: path of the image below the dataset folder, with `{case}` once.
        mask: path of a mask below the dataset folder, with `{case}` and `{label}` once each.
    """

    kind: Literal["mask_per_structure"]
    image: str
    mask: str


class DatasetSpec(StrictModel):
    """What one source dataset holds.

    Attributes:
        name: name of the source, letters and digits; the joined case names start with it.
        dataset_id: nnU-Net's number of the source folder, where it has one.
        folder: folder of the dataset below `--root`.
        labels: integer of the label map, or file stem of the mask -> canonical structure, or several at once.
        annotated: the structures that are truly annotated; what is absent here is unknown, not background.
        partial_extent: structures contoured only on part of their inferior-superior extent.
        definitions: structure -> what exactly is contoured.
        conflicts: structure -> `same` or `separate`, where another dataset defines it differently.
        exclude: case -> reason why it is left out.
    """

    name: str
    dataset_id: int | None = Field(default=None, ge=1, le=999)
    folder: str
    modality: str
    licence: str
    citation: str
    homepage: str | None = None
    layout: Annotated[NnunetRawLayout | MaskPerStructureLayout, Field(discriminator="kind")]
    labels: dict[int | str, str | tuple[str, ...]]
    annotated: tuple[str, ...] = Field(min_length=1)
    partial_extent: tuple[str, ...] = ()
    definitions: dict[str, str] = Field(default_factory=dict)
    conflicts: dict[str, Literal["same", "separate"]] = Field(default_factory=dict)
    exclude: dict[str, str] = Field(default_factory=dict)

    @property
    def meanings(self) -> dict[int | str, tuple[str, ...]]:
        """Return label -> the structures it stands for, always as a tuple."""
        return {label: (value,) if isinstance(value, str) else value for label, value in self.labels.items()}

    @property
    def snake_name(self) -> str:
        """Return the name in lower snake case: HeadNeckNerve -> head_neck_nerve."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.name).lower()
