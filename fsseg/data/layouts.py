"""Layouts: where the files of a dataset lie below its folder."""

from typing import Literal

from fsseg.config.base import StrictModel

CASE = "{case}"
LABEL = "{label}"
FILE_ENDING = ".nii.gz"
PNG_SLICES = "/*.png"

LabelGeometry = Literal["own", "image"]


class NnunetRawLayout(StrictModel):
    """An nnU-Net raw folder: imagesTr/<case>_0000.nii.gz, and labelsTr/<case>.nii.gz with integers."""

    kind: Literal["nnunet_raw"]


class LabelMapLayout(StrictModel):
    """One image and one label map with integers per case, wherever they lie.

    The end of a path says what is there: `.nii.gz` or `.nii` a file, `/` a folder with one DICOM series (images),
    `/*.png` the slices of a label map, one PNG per DICOM file and numbered as those are.

    Attributes:
        image: path of the image below the dataset folder, with `{case}`; `*` stands for any part of a name.
        labels: path of the label map, likewise.
        case: regular expression of `{case}`, where other files lie in the same folder.
        label_geometry: `own` compares the geometry of label map and image. `image` is for label files of which only the
            order of the axes can be trusted: their voxels are laid on the image's grid.
    """

    kind: Literal["label_map"]
    image: str
    labels: str
    case: str = "[^/]+"
    label_geometry: LabelGeometry = "own"


class MaskPerStructureLayout(StrictModel):
    """One image and one mask file per structure; masks may overlap, an absent mask means not annotated.

    Attributes:
        image: path of the image below the dataset folder, with `{case}` once.
        mask: path of a mask below the dataset folder, with `{case}` and `{label}` once each.
    """

    kind: Literal["mask_per_structure"]
    image: str
    mask: str
