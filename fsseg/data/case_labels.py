"""The labels of one source case as one label map with the integers of the assembly."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.config.errors import first_of
from fsseg.data.assembly import Combinations
from fsseg.data.case_checks import checked_image, checked_labels
from fsseg.data.case_files import CaseFiles
from fsseg.data.image_header import Reader, is_for_nibabel
from fsseg.data.images import voxel_hash
from fsseg.data.intensity_scale import checks_of_channels, scale_notes
from fsseg.data.label_codes import LabelCodes, codes_of_label_map, codes_of_masks
from fsseg.data.layouts import FILE_ENDING, LabelMapLayout
from fsseg.data.orientation import swapped_pairs, z_extents
from fsseg.data.sides import split_sides
from fsseg.data.specs import DatasetSpec
from fsseg.data.straightening import straightened
from fsseg.data.structures import CaseAnnotation

_SHOWN = 10


@dataclass
class LabelledCase:
    """One case in the words of the assembly.

    Attributes:
        problems: what is wrong; the other attributes are meant to be used only if this is empty.
        warnings: what is worth knowing.
        annotation: what the case annotates.
        contained: structures that occur in the case.
        labels: label map with the assembly's integers in the geometry of the image.
        image: the image to write, where the source does not have it as a file that can be linked.
        voxels: hash of the image's voxels.
        reusable: label file of the source that holds exactly these integers already.
        pairs_checked: number of left-right pairs of which both sides were compared.
        pairs_not_checkable: number of left-right pairs of which the case has one side only.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    annotation: CaseAnnotation | None = None
    contained: frozenset[str] = frozenset()
    labels: SimpleITK.Image | None = None
    image: SimpleITK.Image | None = None
    voxels: str = ""
    reusable: Path | None = None
    pairs_checked: int = 0
    pairs_not_checkable: int = 0


class CaseReader:
    """Reads and checks the cases of one source dataset.

    Args:
        spec: the source dataset.
        names: structure in the spec -> structure in the assembly.
        combinations: numbers the combinations of structures of the assembly; grows with what masks hold.
        repair: take images that ITK does not read, and give their copies axes at right angles.
    """

    def __init__(
        self, spec: DatasetSpec, names: Mapping[str, str], combinations: Combinations, *, repair: bool = False
    ) -> None:
        self.spec = spec
        self.names = names
        self.combinations = combinations
        self.repair = repair
        self._reader: Reader = "either" if repair else "ITK"

    def read(self, files: CaseFiles) -> LabelledCase:
        """Read one case and check it; all that is wrong with it is in `problems`."""
        result = LabelledCase()
        image, result.problems = checked_image(files, self._reader)
        codes, annotated = (self._label_map if self.spec.has_label_maps else self._masks)(files, image, result)
        if image is None or codes is None or result.problems:
            return result
        result.image = None if files.image.name.endswith(FILE_ENDING) else image
        (check,) = checks_of_channels([self.spec.modality])
        off_scale = check(SimpleITK.GetArrayViewFromImage(image))
        result.warnings += scale_notes({files.image.name: off_scale} if off_scale else {})
        if self.repair:
            image = self._repaired(files, image, result)
        for name in self.spec.split_sides:
            annotated = self._split(name, codes, annotated, image, result)
        labels = SimpleITK.GetImageFromArray(codes.numbered(self._integer))
        labels.CopyInformation(image)
        self._locate(labels, annotated, result)
        result.labels = labels
        result.voxels = voxel_hash(image)
        return result

    def _repaired(self, files: CaseFiles, image: SimpleITK.Image, result: LabelledCase) -> SimpleITK.Image:
        """Return the image with axes at right angles; what ITK does not read as it is stored is to be written."""
        try:
            straight = straightened(image)
        except ValueError as error:
            result.problems.append(f"image {error}: {files.image}")
            return image
        if straight.degrees:
            result.warnings.append(
                f"the axes of its image are sheared by {straight.degrees:.2g} degrees; in the copy they are at right"
                f" angles, which moves voxels by up to {straight.moved_mm:.2g} mm"
            )
        if straight.degrees or is_for_nibabel(files.image):
            result.image = straight.image
        return straight.image

    def _label_map(
        self, files: CaseFiles, image: SimpleITK.Image | None, result: LabelledCase
    ) -> tuple[LabelCodes | None, list[str]]:
        path, layout = files.labels[""], self.spec.layout
        # PNG slices have no geometry.
        on_grid = path.is_dir() or (isinstance(layout, LabelMapLayout) and layout.label_geometry == "image")
        array, problems = checked_labels(path, image, "image" if on_grid else "own", files.image, self._reader)
        result.problems += problems
        if array is None:
            return None, []
        meanings = {0: (), **{int(label): meant for label, meant in self.spec.meanings.items()}}
        present = np.unique(array).tolist()
        unknown = [value for value in present if value not in meanings]
        if unknown:
            named = ", ".join(map(str, sorted(meanings)))
            result.problems.append(
                f"labels hold values that the spec does not name: {first_of(unknown, _SHOWN)} (named: {named})"
            )
            return None, []
        may_be_linked = path.name.endswith(FILE_ENDING) and array.dtype == np.uint8 and not self.repair
        if may_be_linked and not on_grid and not self.spec.split_sides:
            result.reusable = path if all(self._integer(meanings[value]) == value for value in present) else None
        return codes_of_label_map(array, meanings), list(self.spec.annotated)

    def _integer(self, structures: Iterable[str]) -> int:
        return self.combinations.integer(self.names[name] for name in structures)

    def _masks(
        self, files: CaseFiles, image: SimpleITK.Image | None, result: LabelledCase
    ) -> tuple[LabelCodes | None, list[str]]:
        others = sorted(set(files.labels) - {str(label) for label in self.spec.labels})
        if others:
            result.warnings.append(f"masks that the spec does not name are not used: {first_of(others, _SHOWN)}")
        # A structure made of several masks is annotated only where all of them exist.
        absent = {name for label, meant in self.spec.meanings.items() if label not in files.labels for name in meant}
        gone = {part for name in absent for part in self.spec.parts(name)}
        annotated = [name for name in self.spec.annotated if name not in gone]
        if image is None:
            return None, annotated
        return codes_of_masks(image.GetSize()[::-1], self._read_masks(files, image, absent, result)), annotated

    def _read_masks(
        self, files: CaseFiles, image: SimpleITK.Image, absent: set[str], result: LabelledCase
    ) -> Iterator[tuple[frozenset[str], np.ndarray]]:
        for label, meant in self.spec.meanings.items():
            names = frozenset(meant) - absent
            if not names:
                continue
            path = files.labels[str(label)]
            array, problems = checked_labels(path, image, reader=self._reader)
            if array is not None:
                values = np.unique(array)
                if values[0] < 0 or values[values > 0].size > 1:
                    problems.append(
                        f"mask {path.name} must hold one value besides 0, got {first_of(values.tolist(), _SHOWN)}"
                    )
                else:
                    yield names, array > 0
            result.problems += problems

    def _split(
        self, name: str, codes: LabelCodes, annotated: list[str], image: SimpleITK.Image, result: LabelledCase
    ) -> list[str]:
        """Give a structure its sides in `codes`; return what is annotated, without the sides that cannot be told."""
        sides = split_sides(codes.mask(name), image)
        if sides.right is not None and sides.left is not None:
            for part, mask in zip(self.spec.parts(name), (sides.right, sides.left), strict=True):
                codes.rename(mask, name, part)
            if sides.remark:
                result.warnings.append(f"{name}: {sides.remark}")
            return annotated
        codes.remove(name)
        result.warnings.append(f"{name}: {sides.remark}; its sides count as not annotated in this case")
        return [structure for structure in annotated if structure not in self.spec.parts(name)]

    def _locate(self, labels: SimpleITK.Image, annotated: list[str], result: LabelledCase) -> None:
        partial = [self.names[name] for name in annotated if name in self.spec.partial_extent]
        names = [self.names[name] for name in annotated]
        extents = z_extents(labels, self.combinations.integers_of(partial))
        integers = self.combinations.integers_of(names)
        swapped, result.pairs_checked, result.pairs_not_checkable = swapped_pairs(labels, integers)
        result.problems += [
            f"left and right are swapped: {pair}; check the labels or the image header" for pair in swapped
        ]
        present = np.unique(SimpleITK.GetArrayViewFromImage(labels)).tolist()
        result.contained = self.combinations.members(present)
        if not result.contained:
            result.warnings.append("no structure is labelled")
        # Partly contoured and not contoured at all: then nobody looked, and it is unknown, not absent.
        known = tuple(name for name in names if name not in partial or name in extents)
        result.annotation = CaseAnnotation(
            source=self.spec.name, collection=self.spec.collection, annotated=known, z_extent=extents
        )
