"""The datasets of the demo: partially labelled phantom collections and a target with novel structures.

The collections differ as real ones do: in what they label and with which integers, in voxel size, noise,
contrast and pose, and in the orientation in which their files are stored. A structure that a collection does
not label is still visible in its images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
import yaml

from fsseg.config.json_files import write_json
from fsseg.data.images import write_image
from fsseg.demo.phantom_anatomy import Look, Phantom, make_phantom

_FILE_ENDING = ".nii.gz"
_SEEDS_PER_DATASET = 1000


@dataclass(frozen=True)
class _Collection:
    """One dataset to write.

    Attributes:
        labels: structure -> integer of the label map.
        orientation: the sides of the patient to which the stored x, y and z axes run, letters of LRAPSI.
    """

    name: str
    dataset_id: int
    labels: Mapping[str, int]
    look: Look
    orientation: str = "LPS"

    @property
    def folder(self) -> str:
        return f"Dataset{self.dataset_id}_{self.name}"

    def case(self, index: int) -> str:
        return f"{self.name.removeprefix('Phantom').lower()}_{index:03d}"


_SOURCES = (
    _Collection(
        "PhantomNorth",
        801,
        {"liver": 1, "spleen": 2, "gallbladder": 3},
        Look((4.5, 3.8, 3.8), noise_hu=9, blur_mm=1.0, enhancement=1.0, pose_degrees=2),
    ),
    _Collection(
        "PhantomEast",
        802,
        {"kidney_right": 1, "kidney_left": 2},
        Look((4.0, 4.0, 4.0), noise_hu=14, blur_mm=1.5, enhancement=0.85, pose_degrees=3),
        orientation="RAS",
    ),
    _Collection(
        "PhantomSouth",
        803,
        {"aorta": 1, "liver": 2, "spleen": 3, "inferior_vena_cava": 4},
        Look((5.0, 3.5, 3.5), noise_hu=11, blur_mm=1.2, enhancement=1.15, pose_degrees=2),
    ),
)
_TARGET = _Collection(
    "PhantomTarget",
    804,
    {"liver": 1, "kidney_left": 2, "stomach": 3, "pancreas": 4},
    Look((4.5, 4.2, 4.2), noise_hu=40, blur_mm=2.2, enhancement=0.4, pose_degrees=12),
)


def write_phantom_datasets(
    root: Path,
    *,
    seed: int = 0,
    cases_per_source: int = 10,
    target_cases: int = 12,
    swap_sides: bool = False,
) -> list[Path]:
    """Write the datasets as nnU-Net raw folders under `root`, and a dataset spec beside each.

    Args:
        root: folder to write into; made if missing.
        seed: equal seeds give the same bodies; no two cases share a body.
        cases_per_source: number of cases of each source, at most 1000.
        target_cases: number of cases of the target, at most 1000.
        swap_sides: label right kidneys as left ones and the reverse, to make a dataset that is wrong.

    Returns:
        The paths of the specs: the sources in order of their dataset id, then the target.

    Raises:
        ValueError: more cases are asked for than there are seeds.
    """
    if max(cases_per_source, target_cases) > _SEEDS_PER_DATASET:
        raise ValueError(f"At most {_SEEDS_PER_DATASET} cases per dataset, got {cases_per_source}, {target_cases}.")
    root.mkdir(parents=True, exist_ok=True)
    specs = [_write_collection(root, source, seed, cases_per_source, swap_sides) for source in _SOURCES]
    return [*specs, _write_collection(root, _TARGET, seed, target_cases, swap_sides)]


def _write_collection(root: Path, collection: _Collection, seed: int, cases: int, swap_sides: bool) -> Path:
    folder = root / collection.folder
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    first_seed = (seed * 1000 + collection.dataset_id) * _SEEDS_PER_DATASET
    for index in range(cases):
        phantom = make_phantom(first_seed + index, collection.look)
        case = collection.case(index)
        label_map = _label_map(phantom, collection.labels, swap_sides)
        image_path = folder / "imagesTr" / f"{case}_0000{_FILE_ENDING}"
        label_path = folder / "labelsTr" / f"{case}{_FILE_ENDING}"
        _write(phantom.image, phantom.spacing_zyx_mm, collection.orientation, image_path)
        _write(label_map, phantom.spacing_zyx_mm, collection.orientation, label_path)
    write_json(folder / "dataset.json", _dataset_json(collection, cases))
    spec_path = root / f"{collection.name}.yaml"
    spec_path.write_text(yaml.safe_dump(_spec(collection), sort_keys=False), encoding="utf-8")
    return spec_path


def _label_map(phantom: Phantom, labels: Mapping[str, int], swap_sides: bool) -> np.ndarray:
    swapped = {"kidney_right": "kidney_left", "kidney_left": "kidney_right"} if swap_sides else {}
    label_map = np.zeros(phantom.image.shape, dtype=np.uint8)
    for name, integer in labels.items():
        label_map[phantom.masks[swapped.get(name, name)]] = integer
    return label_map


def _write(array: np.ndarray, spacing_zyx_mm: tuple[float, float, float], orientation: str, path: Path) -> None:
    """Write an array (D, H, W) whose axes run to superior, posterior and left in the given orientation."""
    image = SimpleITK.GetImageFromArray(array)
    spacing_xyz_mm = spacing_zyx_mm[::-1]
    image.SetSpacing(spacing_xyz_mm)
    sizes_xyz_mm = zip(image.GetSize(), spacing_xyz_mm, strict=True)
    image.SetOrigin([-(size - 1) * spacing / 2 for size, spacing in sizes_xyz_mm])
    write_image(SimpleITK.DICOMOrient(image, orientation), path)


def _dataset_json(collection: _Collection, cases: int) -> dict[str, object]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **collection.labels},
        "numTraining": cases,
        "file_ending": _FILE_ENDING,
        "name": collection.name,
    }


def _spec(collection: _Collection) -> dict[str, object]:
    return {
        "name": collection.name,
        "dataset_id": collection.dataset_id,
        "folder": collection.folder,
        "modality": "CT",
        "licence": "Apache-2.0",
        "citation": "Synthetic abdominal CT phantoms made by fsseg; no patient data.",
        "layout": {"kind": "nnunet_raw"},
        "labels": {integer: name for name, integer in collection.labels.items()},
        "annotated": list(collection.labels),
    }
