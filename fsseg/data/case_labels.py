"""The labels of one source case as one label map with the integers of the assembly."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.data.assembly import HIGHEST_INTEGER, Combinations, combine_masks
from fsseg.data.case_checks import checked_image, checked_labels
from fsseg.data.case_files import CaseFiles
from fsseg.data.orientation import swapped_pairs, z_extents
from fsseg.data.specs import DatasetSpec, NnunetRawLayout
from fsseg.data.structures import CaseAnnotation


@dataclass
class LabelledCase:
    """One case in the words of the assembly.

    Attributes:
        problems: what is wrong; the other attributes are meant to be used only if this is empty.
        warnings: what is worth knowing.
        annotation: what the case annotates.
        contained: structures that occur in the case.
        labels: label map with the assembly's integers in the geometry of the image.
        reusable: label file of the source that holds exactly these integers already.
        pairs_checked: number of left-right pairs of which both sides were compared.
        pairs_not_checkable: number of left-right pairs of which the case has one side only.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    annotation: CaseAnnotation | None = None
    contained: frozenset[str] = frozenset()
    labels: SimpleITK.Image | None = None
    reusable: Path | None = None
    pairs_checked: int = 0
    pairs_not_checkable: int = 0


class CaseReader:
    """Reads and checks the cases of one source dataset.

    Args:
        spec: the source dataset.
        names: structure in the spec -> structure in the assembly.
        combinations: numbers the combinations of structures of the assembly; grows with what masks hold.
    """

    def __init__(self, spec: DatasetSpec, names: dict[str, str], combinations: Combinations) -> None:
        self.spec = spec
        self.names = names
        self.combinations = combinations

    def read(self, files: CaseFiles) -> LabelledCase:
        """Read one case and check it; all that is wrong with it is in `problems`."""
        result = LabelledCase()
        image, result.problems = checked_image(files)
        if isinstance(self.spec.layout, NnunetRawLayout):
            integers, annotated = self._label_map(files, image, result)
        else:
            integers, annotated = self._masks(files, image, result)
        if image is None or integers is None or result.problems:
            return result
        labels = SimpleITK.GetImageFromArray(integers)
        labels.CopyInformation(image)
        self._locate(labels, annotated, result)
        result.labels = labels
        return result

    def _label_map(
        self, files: CaseFiles, image: SimpleITK.Image | None, result: LabelledCase
    ) -> tuple[np.ndarray | None, list[str]]:
        array, problems = checked_labels(files.labels[""], image)
        result.problems += problems
        if array is None:
            return None, []
        present = np.unique(array).tolist()
        integer_of = {0: 0} | {
            int(label): self.combinations.integer(self.names[name] for name in meant)
            for label, meant in self.spec.meanings.items()
        }
        unknown = [value for value in present if value not in integer_of]
        if unknown:
            named = _listed(sorted(integer_of), len(integer_of))
            result.problems.append(
                f"labels hold values that the spec does not name: {_listed(unknown)} (named: {named})"
            )
            return None, []
        if array.dtype == np.uint8 and all(integer_of[value] == value for value in present):
            result.reusable = files.labels[""]
        table = np.zeros(max(present) + 1, dtype=np.int64)
        table[present] = [integer_of[value] for value in present]
        return _compact(table[array]), list(self.spec.annotated)

    def _masks(
        self, files: CaseFiles, image: SimpleITK.Image | None, result: LabelledCase
    ) -> tuple[np.ndarray | None, list[str]]:
        others = sorted(set(files.labels) - {str(label) for label in self.spec.labels})
        if others:
            result.warnings.append(f"masks that the spec does not name are not used: {_listed(others)}")
        # A structure made of several masks is annotated only where all of them exist.
        absent = {name for label, meant in self.spec.meanings.items() if label not in files.labels for name in meant}
        annotated = [name for name in self.spec.annotated if name not in absent]
        if image is None:
            return None, annotated
        masks = self._read_masks(files, image, frozenset(annotated), result)
        return _compact(combine_masks(image.GetSize()[::-1], masks, self.combinations)), annotated

    def _read_masks(
        self, files: CaseFiles, image: SimpleITK.Image, annotated: frozenset[str], result: LabelledCase
    ) -> Iterator[tuple[frozenset[str], np.ndarray]]:
        for label, meant in self.spec.meanings.items():
            names = frozenset(self.names[name] for name in annotated.intersection(meant))
            if not names:
                continue
            path = files.labels[str(label)]
            array, problems = checked_labels(path, image)
            if array is not None:
                values = np.unique(array)
                if values[0] < 0 or values[values > 0].size > 1:
                    problems.append(f"mask {path.name} must hold one value besides 0, got {_listed(values.tolist())}")
                else:
                    yield names, array > 0
            result.problems += problems

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
        result.annotation = CaseAnnotation(source=self.spec.name, annotated=known, z_extent=extents)


def _compact(integers: np.ndarray) -> np.ndarray:
    # More integers than 8 bits hold are refused once all cases are read; until then none may wrap around.
    return integers.astype(np.uint8 if integers.max() <= HIGHEST_INTEGER else np.uint16)


def _listed(values: list, most: int = 10) -> str:
    text = ", ".join(str(value) for value in values[:most])
    return text + (f" and {len(values) - most} more" if len(values) > most else "")
