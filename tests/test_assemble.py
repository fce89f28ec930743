"""Assembly: label maps, regions and annotations come out right, and bad data are refused without a trace."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import yaml
from damaged_images import nifti_bytes

from fsseg.cli.main import main
from fsseg.config.errors import FssegError, UsageError
from fsseg.data.assembly import Combinations, class_order
from fsseg.data.joined_files import link
from fsseg.data.structures import Structures, load_structures
from fsseg.nnunet.environment import dataset_folder, raw_folder
from fsseg.stages.assemble import AssembleConfig, run_assemble

REPOSITORY = Path(__file__).parents[1]
SPECS = REPOSITORY / "dataset_specs"
REAL_DATA = REPOSITORY.parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"the development data are not in {REAL_DATA}")

SHAPE = (10, 9, 8)  # z, y, x
RIGHT, LEFT = np.s_[2:5, 2:5, 1:3], np.s_[2:5, 2:5, 5:7]  # x index grows towards the patient's left (LPS)
WHOLE, PART = np.s_[2:8, 2:8, 2:7], np.s_[3:5, 3:5, 3:5]


def image_of(array: np.ndarray, flip_z: bool = False) -> SimpleITK.Image:
    """Make an image of a (z, y, x) array in LPS orientation; `flip_z` stores it superior slice first."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 3.0))
    image.SetOrigin((-8.0, -9.0, 40.0))
    return SimpleITK.DICOMOrient(image, "LPI") if flip_z else image


def save(array: np.ndarray, path: Path, flip_z: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image_of(array, flip_z), str(path))


def ct() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


def label_map(values: dict[Any, Any], dtype: Any = np.uint8) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=dtype)
    for value, where in values.items():
        array[where] = value
    return array


@dataclass
class Site:
    """A root folder with source datasets, and an empty nnUNet_raw."""

    root: Path
    raw: Path

    def spec(self, name: str, labels: dict[Any, Any], **more: Any) -> Path:
        meanings = [value if isinstance(value, list) else [value] for value in labels.values()]
        content = {
            "name": name,
            "folder": name,
            "modality": "CT",
            "licence": "CC0",
            "citation": f"the makers of {name}",
            "layout": {"kind": "nnunet_raw"},
            "labels": labels,
            "annotated": list(dict.fromkeys(structure for meaning in meanings for structure in meaning)),
        }
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | more, sort_keys=False))
        return path

    def case(self, name: str, case: str, labels: np.ndarray, image: np.ndarray | None = None, **how: Any) -> None:
        save(ct() if image is None else image, self.root / name / "imagesTr" / f"{case}_0000.nii.gz", **how)
        save(labels, self.root / name / "labelsTr" / f"{case}.nii.gz", **how)

    def assemble(self, *specs: Path) -> dict[str, Any]:
        config = AssembleConfig(specs=specs, root=self.root, dataset_id=901, name="Joined")
        return run_assemble(config).report.as_json()

    @property
    def out(self) -> Path:
        return self.raw / "Dataset901_Joined"

    def labels(self, case: str) -> np.ndarray:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(self.out / "labelsTr" / f"{case}.nii.gz")))

    def dataset_json(self) -> dict[str, Any]:
        return json.loads((self.out / "dataset.json").read_text(encoding="utf-8"))


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    raw = tmp_path / "raw"
    raw.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    for other in ("nnUNet_preprocessed", "nnUNet_results"):  # of other tests, whose datasets take numbers, too
        monkeypatch.delenv(other, raising=False)
    (tmp_path / "root").mkdir()
    return Site(tmp_path / "root", raw)


def sections(site: Site) -> Path:
    """A good dataset: liver with tumour nested in it, one case."""
    site.case("Livers", "a", label_map({1: WHOLE, 2: PART}))
    return site.spec("Livers", {1: "liver", 2: ["liver", "liver_tumour"]})


def test_nested_structures_become_regions(site):
    report = site.assemble(sections(site))
    written = site.dataset_json()
    assert written["labels"] == {"background": 0, "liver": [1, 2], "liver_tumour": [2, 2]}
    assert list(written["labels"]) == ["background", "liver", "liver_tumour"]
    assert written["regions_class_order"] == [1, 2]
    assert written["overwrite_image_reader_writer"] == "SimpleITKIOWithReorient"
    assert (written["numTraining"], written["channel_names"]) == (1, {"0": "CT"})
    assert load_structures(site.out).integers == {"liver": (1, 2), "liver_tumour": (2,)}
    assert report["structures"]["liver_tumour"]["cases_containing"] == 1
    assert json.loads((site.out / "manifest.json").read_text(encoding="utf-8"))["inputs"]


def test_a_containing_structure_comes_first_even_if_named_last(site):
    site.case("Livers", "a", label_map({1: PART, 2: WHOLE}))
    site.assemble(site.spec("Livers", {1: ["liver_tumour", "liver"], 2: "liver"}))
    written = site.dataset_json()
    assert written["labels"] == {"background": 0, "liver": [1, 2], "liver_tumour": [1, 1]}
    assert list(written["labels"])[1] == "liver"
    assert written["regions_class_order"] == [2, 1]


def test_nnunet_reads_the_regions_as_sigmoid_channels(site):
    label_handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    site.assemble(sections(site))
    written = site.dataset_json()
    manager = label_handling.LabelManager(written["labels"], written["regions_class_order"])
    assert manager.has_regions
    assert manager.num_segmentation_heads == 2
    probabilities = np.array([[1, 1, 0], [0, 1, 0]], dtype=np.float32)[:, :, None, None]  # liver, tumour
    segmentation = manager.convert_probabilities_to_segmentation(probabilities)
    assert segmentation.ravel().tolist() == [1, 2, 0]


def test_two_numbering_schemes_are_joined(site):
    site.case("Nerves", "a", label_map({1: np.s_[0:2], 2: np.s_[4:6]}))
    site.case("Bones", "a", label_map({1: np.s_[0:2], 2: np.s_[4:6]}))
    nerves = site.spec("Nerves", {1: "brainstem", 2: "spinal_cord"})
    report = site.assemble(nerves, site.spec("Bones", {1: "mandible", 2: "spinal_cord"}))
    structures = load_structures(site.out)
    assert structures.integers == {"brainstem": (1,), "spinal_cord": (2,), "mandible": (3,)}
    assert structures.cases["Nerves_a"].annotated == ("brainstem", "spinal_cord")
    assert structures.cases["Bones_a"].annotated == ("spinal_cord", "mandible")
    assert site.labels("Bones_a")[:, 0, 0].tolist() == [3, 3, 0, 0, 2, 2, 0, 0, 0, 0]
    assert report["structures"]["mandible"]["cases_unannotated"] == 1
    assert any("same image as Nerves_a" in warning for warning in report["warnings"])


def test_the_same_image_of_several_sources_is_one_group_however_it_is_stored(site):
    labels = {1: WHOLE}
    for name, image, flip_z in (
        ("Livers", ct(), False),
        ("Spleens", ct().astype(np.float32), True),
        ("Others", ct() + 1, False),
        ("Nerves", ct(), False),
    ):
        site.case(name, "a", label_map(labels), image, flip_z=flip_z)
    specs = [site.spec(name, {1: name.lower()}) for name in ("Livers", "Spleens", "Others", "Nerves")]
    report = site.assemble(*specs)
    structures = load_structures(site.out)
    assert structures.duplicates == (("Livers_a", "Spleens_a", "Nerves_a"),)
    assert structures.subset(("livers",)).duplicates == structures.duplicates
    assert sum("same image as Livers_a" in warning for warning in report["warnings"]) == 2


def test_structures_of_an_older_assembly_are_read(site):
    site.assemble(sections(site))
    file = site.out / "structures.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["duplicates"], content["cases"]["Livers_a"]["collection"]
    file.write_text(json.dumps(content), encoding="utf-8")
    older = load_structures(site.out)
    assert (older.duplicates, older.cases["Livers_a"].collection) == ((), None)


def test_files_are_linked_where_they_can_be(site):
    site.assemble(sections(site))
    source = site.root / "Livers"
    assert (site.out / "imagesTr/Livers_a_0000.nii.gz").samefile(source / "imagesTr/a_0000.nii.gz")
    assert (site.out / "labelsTr/Livers_a.nii.gz").samefile(source / "labelsTr/a.nii.gz")


def test_link_falls_back_to_a_symbolic_link_and_to_a_copy(tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OSError("not here")

    source = tmp_path / "source"
    source.write_text("content")
    monkeypatch.setattr("os.link", refuse)
    link(source, tmp_path / "symbolic")
    assert (tmp_path / "symbolic").is_symlink()
    monkeypatch.setattr("os.symlink", refuse)
    link(source, tmp_path / "copy")
    assert not (tmp_path / "copy").is_symlink()
    assert (tmp_path / "copy").read_text(encoding="utf-8") == "content"


def test_label_maps_of_other_type_are_written_as_8_bit_in_the_geometry_of_the_image(site):
    site.case("Livers", "a", label_map({1: WHOLE}, np.float32), flip_z=True)
    site.assemble(site.spec("Livers", {1: "liver"}))
    written = SimpleITK.ReadImage(str(site.out / "labelsTr/Livers_a.nii.gz"))
    image = SimpleITK.ReadImage(str(site.out / "imagesTr/Livers_a_0000.nii.gz"))
    assert written.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert written.GetDirection() == image.GetDirection()
    assert written.GetOrigin() == image.GetOrigin()


@pytest.mark.parametrize("flip_z", [False, True], ids=["inferior first", "superior first"])
def test_partial_extent_counts_slices_from_the_feet(site, flip_z):
    cord = label_map({1: np.s_[3:7, 4, 4]})
    cord[5] = 0  # a gap does not end the extent
    site.case("Cords", "a", cord, flip_z=flip_z)
    site.assemble(site.spec("Cords", {1: "spinal_cord"}, partial_extent=["spinal_cord"]))
    assert load_structures(site.out).cases["Cords_a"].z_extent == {"spinal_cord": (3, 7)}


def test_a_partial_structure_that_a_case_lacks_is_not_annotated_there(site):
    site.case("Cords", "a", label_map({1: np.s_[3:7, 4, 4], 2: np.s_[0:2]}))
    site.case("Cords", "b", label_map({2: np.s_[0:2]}))
    spec = site.spec("Cords", {1: "spinal_cord", 2: "brainstem"}, partial_extent=["spinal_cord"])
    report = site.assemble(spec)
    cases = load_structures(site.out).cases
    assert cases["Cords_a"].annotated == ("spinal_cord", "brainstem")
    assert cases["Cords_b"].annotated == ("brainstem",)
    assert report["structures"]["spinal_cord"]["cases_annotating"] == 1


def test_excluded_cases_are_left_out_and_reported(site):
    site.case("Livers", "bad", label_map({9: WHOLE}))
    site.case("Livers", "a", label_map({1: WHOLE}))
    report = site.assemble(site.spec("Livers", {1: "liver"}, exclude={"bad": "wrong label", "c": "unknown"}))
    assert list(load_structures(site.out).cases) == ["Livers_a"]
    assert report["sources"]["Livers"]["excluded"]["bad"] == "wrong label"
    assert any("'c' does not exist" in warning for warning in report["warnings"])


def test_an_empty_label_map_is_a_warning(site):
    site.case("Livers", "a", label_map({}))
    report = site.assemble(site.spec("Livers", {1: "liver"}))
    assert report["warnings"] == ["Livers_a: no structure is labelled"]


def masks_site(site: Site, cases: dict[str, dict[str, np.ndarray]], labels: dict[str, Any], **more: Any) -> Path:
    layout = {"kind": "mask_per_structure", "image": "{case}/ct.nii.gz", "mask": "{case}/seg/{label}.nii.gz"}
    for case, masks in cases.items():
        save(ct(), site.root / "Masks" / case / "ct.nii.gz")
        for stem, mask in masks.items():
            save(mask, site.root / "Masks" / case / "seg" / f"{stem}.nii.gz")
    return site.spec("Masks", labels, layout=layout, **more)


def test_overlapping_masks_become_combinations(site):
    liver, vessel = label_map({1: np.s_[0:4]}), label_map({1: np.s_[3:6]})
    spec = masks_site(site, {"s1": {"liver": liver, "vessel": vessel}}, {"liver": "liver", "vessel": "vessel"})
    report = site.assemble(spec)
    members = {integer: set(names) for integer, names in report["integers"].items()}
    column = [members.get(str(value), set()) for value in site.labels("Masks_s1")[:, 0, 0]]
    assert column == [{"liver"}] * 3 + [{"liver", "vessel"}] + [{"vessel"}] * 2 + [set()] * 4
    assert load_structures(site.out).table().shape == (4, 2)


def test_an_absent_mask_is_unannotated_and_an_empty_one_is_not(site):
    full, empty = label_map({1: WHOLE}), label_map({})
    cases = {
        "s1": {"liver": full, "spleen": empty},
        "s2": {"liver": full},
        "s3": {"liver": full, "spleen": full},
    }
    report = site.assemble(masks_site(site, cases, {"liver": "liver", "spleen": "spleen", "brain": "brain"}))
    annotated = {case: set(value.annotated) for case, value in load_structures(site.out).cases.items()}
    assert annotated["Masks_s1"] == annotated["Masks_s3"] == {"liver", "spleen"}
    assert annotated["Masks_s2"] == {"liver"}
    assert report["structures"]["spleen"]["cases_unannotated"] == 1
    assert report["left_out"] == {"brain": "annotated in no case"}


def test_a_structure_of_several_masks_needs_all_of_them(site):
    upper, lower = label_map({1: np.s_[5:8]}), label_map({1: np.s_[2:5]})
    cases = {"s1": {"upper": upper, "lower": lower}, "s2": {"upper": upper}}
    site.assemble(masks_site(site, cases, {"upper": "lung", "lower": "lung"}))
    annotated = {case: value.annotated for case, value in load_structures(site.out).cases.items()}
    assert annotated == {"Masks_s1": ("lung",), "Masks_s2": ()}
    assert site.labels("Masks_s2").max() == 0


def test_masks_that_the_spec_does_not_name_are_reported(site):
    full = label_map({1: WHOLE})
    report = site.assemble(masks_site(site, {"s1": {"liver": full, "face": full}}, {"liver": "liver"}))
    assert report["warnings"] == ["Masks_s1: masks that the spec does not name are not used: face"]


def test_too_many_combinations_are_refused(site):
    stems = [f"part_{number}" for number in range(9)]
    bits = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 512
    masks = {stem: ((bits >> number) & 1).astype(np.uint8) for number, stem in enumerate(stems)}
    spec = masks_site(site, {"s1": masks}, {stem: stem for stem in stems})
    with pytest.raises(FssegError, match=r"511 different combinations.*8-bit.*at most 255"):
        site.assemble(spec)
    assert list(site.raw.iterdir()) == []


def test_swapped_sides_are_caught_whatever_the_storage(site):
    for case, labels, flip_z in [("good", {1: RIGHT, 2: LEFT}, True), ("bad", {1: LEFT, 2: RIGHT}, True)]:
        site.case("Pairs", case, label_map(labels), flip_z=flip_z)
    site.case("Pairs", "one_side", label_map({1: LEFT}))
    spec = site.spec("Pairs", {1: "kidney_right", 2: "kidney_left"})
    with pytest.raises(FssegError, match=r"Pairs_bad: left and right are swapped: kidney_left lies 8\.0 mm") as caught:
        site.assemble(spec)
    assert "good" not in str(caught.value)
    report = site.assemble(site.spec("Pairs", {1: "kidney_right", 2: "kidney_left"}, exclude={"bad": "swapped"}))
    assert report["pairs"] == {"checked": 1, "not checkable (one side only)": 1}


def test_a_header_that_mirrors_the_patient_is_caught(site):
    spec = site.spec("Pairs", {1: "kidney_right", 2: "kidney_left"})
    for array, path in [
        (ct(), "imagesTr/a_0000.nii.gz"),
        (label_map({1: RIGHT, 2: LEFT}), "labelsTr/a.nii.gz"),
    ]:
        image = image_of(array)
        image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
        (site.root / "Pairs" / path).parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image, str(site.root / "Pairs" / path))
    with pytest.raises(FssegError, match="check the labels or the image header"):
        site.assemble(spec)


def spoil(site: Site, kind: str) -> None:
    """Make case b of the dataset bad in one way."""
    image, labels = ct(), label_map({1: WHOLE})
    base = site.root / "Livers"
    image_file, label_file = base / "imagesTr/b_0000.nii.gz", base / "labelsTr/b.nii.gz"
    arrays = {
        "unknown value": (image, label_map({1: WHOLE, 7: PART})),
        "negative value": (image, label_map({1: WHOLE, -1: PART}, np.int16)),
        "fractions": (image, label_map({0.5: WHOLE}, np.float32)),
        "nan": (np.where(image > 900, np.nan, image).astype(np.float32), labels),
        "constant": (np.full(SHAPE, 3, np.int16), labels),
        "shape": (image, labels[:-1]),
        "4d": (np.stack([image, image]), labels),
    }
    image, labels = arrays.get(kind, (image, labels))
    save(image, image_file) if image.ndim == 3 else write_4d(image, image_file)
    save(labels, label_file)
    damage = {
        "no image": lambda: image_file.unlink(),
        "no labels": lambda: label_file.unlink(),
        "truncated image": lambda: image_file.write_bytes(image_file.read_bytes()[:700]),
        "truncated labels": lambda: label_file.write_bytes(label_file.read_bytes()[:-20]),
        "no nifti": lambda: image_file.write_bytes(b"this is no image"),
        "spacing": lambda: regeometry(label_file, "SetSpacing", (2.0, 2.0, 3.1)),
        "origin": lambda: regeometry(label_file, "SetOrigin", (0.0, 0.0, 0.0)),
        "direction": lambda: regeometry(label_file, "SetDirection", (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        "second channel": lambda: save(image, base / "imagesTr/b_0001.nii.gz"),
    }
    damage.get(kind, lambda: None)()


def write_4d(array: np.ndarray, path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image_of(part) for part in array]), str(path))


def regeometry(path: Path, setter: str, value: tuple[float, ...]) -> None:
    image = SimpleITK.ReadImage(str(path))
    getattr(image, setter)(value)
    SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no image", "Livers_b: image missing"),
        ("no labels", "Livers_b: labels missing"),
        ("truncated image", "Livers_b: image truncated or damaged"),
        ("truncated labels", "Livers_b: labels truncated or damaged"),
        ("no nifti", "Livers_b: image truncated or damaged"),
        ("unknown value", "values that the spec does not name: 7 (named: 0, 1)"),
        ("negative value", "values that the spec does not name: -1 (named: 0, 1)"),
        ("fractions", "hold values that are no integers"),
        ("nan", "values that are NaN or infinite"),
        ("constant", "image is constant (every voxel is 3)"),
        ("shape", "have shape 8x9x9, but the image has 8x9x10"),
        ("4d", "image must be 3D with one value per voxel, got 8x9x10x2"),
        ("spacing", "have spacing [2. , 2. , 3.1], but the image has [2., 2., 3.]"),
        ("origin", "have origin"),
        ("direction", "have direction"),
        ("second channel", "image has more than one channel"),
    ],
)
def test_bad_case_is_refused_and_leaves_nothing(site, capsys, kind, message):
    site.case("Livers", "a", label_map({1: WHOLE}))
    spec = site.spec("Livers", {1: "liver"})
    spoil(site, kind)
    options = ["--root", str(site.root), "--id", "901", "--name", "Joined"]
    assert main(["assemble", str(spec), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Livers_a" not in error
    assert "`exclude`" in error
    assert list(site.raw.iterdir()) == []
    assert main(["assemble", str(spec), "--root", str(site.root), "--check"]) == 1


SHEARED = {"srow_y": [0, 3 * np.cos(0.0192), 0, 0], "srow_z": [0, 3 * np.sin(0.0192), 2, 0], "qform_code": 0}


def sheared(path: Path, array: np.ndarray, **fields: Any) -> None:
    """Store an array (z, y, x) so that its axes y and z are 1.1 degrees off a right angle, or with other fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nifti_bytes(array.T, pixdim=(2, 3, 2), srow_x=[2, 0, 0, 0], **(SHEARED | fields))))


def test_a_sheared_image_is_refused_with_the_remedy_and_repaired_when_asked(site, capsys):
    image, labels = site.root / "Livers/imagesTr/a_0000.nii.gz", site.root / "Livers/labelsTr/a.nii.gz"
    sheared(image, ct())
    sheared(labels, label_map({1: WHOLE}))
    before = image.read_bytes()
    spec = site.spec("Livers", {1: "liver"})
    with pytest.raises(FssegError, match=r"sheared by 1\.1 degrees, which ITK .*`fsseg assemble --repair`"):
        site.assemble(spec)
    assert main(["assemble", str(spec), "--root", str(site.root), "--id", "901", "--name", "Joined", "--repair"]) == 0
    assert "sheared by 1.1 degrees; in the copy they are at right angles, which moves voxels by up to 0.1" in (
        capsys.readouterr().out
    )
    copy = SimpleITK.ReadImage(str(site.out / "imagesTr/Livers_a_0000.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(copy), ct())
    assert copy.GetSpacing() == pytest.approx((2, 3, 2))
    written = SimpleITK.ReadImage(str(site.out / "labelsTr/Livers_a.nii.gz"))
    assert written.GetDirection() == pytest.approx(copy.GetDirection(), abs=1e-6)
    assert (site.labels("Livers_a") == label_map({1: WHOLE})).all()
    assert image.read_bytes() == before


def test_repair_does_not_distort_what_is_sheared_much_or_contradicts_itself(site):
    spec = site.spec("Livers", {1: "liver"})
    config = AssembleConfig(specs=(spec,), root=site.root, check=True, repair=True)
    for code, message in ((0, "sheared by .* degrees, more than the 5 that can be"), (1, "holds two geometries")):
        for file, array in (("imagesTr/a_0000.nii.gz", ct()), ("labelsTr/a.nii.gz", label_map({1: WHOLE}))):
            sheared(site.root / "Livers" / file, array, srow_z=[0, 0.8, 2, 0], qform_code=code)
        with pytest.raises(FssegError, match=message):
            run_assemble(config)


def test_problems_of_all_cases_come_at_once_but_not_endlessly(site, capsys):
    for number in range(25):
        site.case("Livers", f"case_{number:02d}", label_map({5: WHOLE}))
    spec = site.spec("Livers", {1: "liver"})
    assert main(["assemble", str(spec), "--root", str(site.root), "--check"]) == 1
    error = capsys.readouterr().err
    assert "25 problems in 25 cases" in error
    assert error.count("does not name") == 20
    assert "... and 5 more" in error


def test_a_spec_that_contradicts_the_dataset_json_of_its_data_is_refused(site):
    spec = sections(site)
    labels = {"background": 0, "liver": 1, "liver_tumour": 1}
    (site.root / "Livers" / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(FssegError, match=r"liver_tumour is \[2\] in the spec, but 1 in .*dataset\.json"):
        site.assemble(spec)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "lacks labels"),
        ({"labels": ["liver"]}, "must map names to integers"),
        ({"labels": {"liver": [[1]]}}, "labels.liver must be an integer from 0"),
        ({"labels": {"0": "background", "3": "liver"}}, r"liver is \[1, 2\] in the spec, but 3 in .*dataset\.json"),
    ],
)
def test_a_dataset_json_beside_the_data_is_read_in_every_form(site, content, message):
    spec = sections(site)
    (site.root / "Livers" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(FssegError, match=message):
        site.assemble(spec)
    assert not site.out.exists()


def test_a_label_map_that_is_a_folder_is_named(site):
    spec = sections(site)
    label = site.root / "Livers" / "labelsTr" / "a.nii.gz"
    label.unlink()
    label.mkdir()
    with pytest.raises(FssegError, match=r"labels a folder, not a file: .*labelsTr/a\.nii\.gz"):
        site.assemble(spec)


def test_a_mask_with_several_values_is_refused(site):
    spec = masks_site(site, {"s1": {"liver": label_map({1: WHOLE, 2: PART})}}, {"liver": "liver"})
    with pytest.raises(FssegError, match=r"mask liver\.nii\.gz must hold one value besides 0, got 0, 1, 2"):
        site.assemble(spec)


def test_an_empty_or_absent_folder_is_refused(site):
    spec = site.spec("Livers", {1: "liver"})
    with pytest.raises(UsageError, match="Dataset folder not found"):
        site.assemble(spec)
    (site.root / "Livers").mkdir()
    with pytest.raises(FssegError, match="no case found in"):
        site.assemble(spec)
    (site.root / "Livers" / "imagesTr").mkdir()
    (site.root / "Livers" / "imagesTr" / "a_0000.nrrd").touch()
    with pytest.raises(FssegError, match=r"its images end in \.nrrd, and \.nii\.gz files are assembled"):
        site.assemble(spec)


def test_the_target_must_be_given_and_free(site, capsys, monkeypatch):
    spec = sections(site)
    assert main(["assemble", str(spec)]) == 2
    assert "Missing: --root, --id, --name" in capsys.readouterr().err
    (site.raw / "Dataset901_Other").mkdir()
    with pytest.raises(UsageError, match=r"number 901 is taken by .*Dataset901_Other"):
        site.assemble(spec)
    (site.raw / "Dataset901_Other").rename(site.raw / "Dataset901_Other.v2")  # nnU-Net asks for the beginning alone
    with pytest.raises(UsageError, match=r"number 901 is taken by .*Dataset901_Other\.v2"):
        site.assemble(spec)
    (site.raw / "Dataset901_Other.v2").rename(site.root / "Dataset901_Other")
    monkeypatch.setenv("nnUNet_preprocessed", str(site.root))
    with pytest.raises(UsageError, match=r"number 901 is taken by .*root/Dataset901_Other"):
        site.assemble(spec)
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UsageError, match="export nnUNet_raw="):
        site.assemble(spec)


def test_a_number_is_locked_whatever_the_name(site, monkeypatch):
    seen = []
    save = Structures.save
    monkeypatch.setattr(Structures, "save", lambda self, folder: (seen.append(folder.name), save(self, folder)))
    site.assemble(sections(site))
    assert seen == ["assemble_Dataset901.partial"]  # not Dataset901…: nnU-Net would count it as a dataset
    assert [path.name for path in site.raw.iterdir()] == ["Dataset901_Joined"]


def test_a_number_that_is_taken_while_waiting_is_refused(site, monkeypatch):
    spec = sections(site)
    # Between the first look and the lock.
    monkeypatch.setattr(
        "fsseg.stages.assemble.source_folders", lambda *_, **__: (site.raw / "Dataset901_Other").mkdir()
    )
    with pytest.raises(UsageError, match="number 901 is taken"):
        site.assemble(spec)
    assert [path.name for path in site.raw.iterdir()] == ["Dataset901_Other"]


def test_check_writes_nothing_and_json_is_json(site, capsys):
    spec = sections(site)
    assert main(["assemble", str(spec), "--root", str(site.root), "--check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["cases"] == 1
    assert report["structures"]["liver"]["integers"] == [1, 2]
    assert list(site.raw.iterdir()) == []


def test_check_says_when_it_found_no_data(site, capsys):
    spec = sections(site)
    assert main(["assemble", str(spec), "--root", str(site.raw), "--check"]) == 0
    assert "Livers: no data folder, so only the spec was checked" in capsys.readouterr().out


def test_check_refuses_a_root_that_does_not_exist(site, capsys):
    assert main(["assemble", str(sections(site)), "--root", str(site.root / "typo"), "--check"]) == 2
    assert f"Folder not found: {site.root / 'typo'}" in capsys.readouterr().err


def test_a_failure_while_writing_leaves_nothing(site, monkeypatch):
    spec = sections(site)
    monkeypatch.setattr(Structures, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        site.assemble(spec)
    assert list(site.raw.iterdir()) == []


def test_separate_definitions_get_channels_of_their_own(site):
    for name in ("Nerves", "Cords"):
        site.case(name, "a", label_map({1: np.s_[4:6]}))
    first = site.spec("Nerves", {1: "spinal_cord"}, definitions={"spinal_cord": "the cord"})
    second = site.spec(
        "Cords",
        {1: "spinal_cord"},
        definitions={"spinal_cord": "the canal"},
        conflicts={"spinal_cord": "separate"},
        partial_extent=["spinal_cord"],
    )
    report = site.assemble(first, second)
    structures = load_structures(site.out)
    assert structures.integers == {"spinal_cord": (1,), "cords__spinal_cord": (2,)}
    assert structures.cases["Cords_a"].z_extent == {"cords__spinal_cord": (4, 6)}
    assert report["sources"]["Cords"]["renamed"] == {"spinal_cord": "cords__spinal_cord"}


def test_class_order_takes_the_integer_shared_least():
    combinations = Combinations()
    for combination in (["a", "b", "c"], ["a", "b"], ["a"]):
        combinations.integer(combination)
    regions = combinations.regions(["c", "b", "a"])
    assert list(regions) == ["a", "b", "c"]
    assert class_order(regions) == [3, 2, 1]


def test_dataset_folder_is_found_by_number_and_name(site):
    site.assemble(sections(site))
    for dataset in (901, "901", "Dataset901_Joined", "Joined"):
        assert dataset_folder(raw_folder(), dataset) == site.out
    with pytest.raises(UsageError, match="Did you mean 'Dataset901_Joined'"):
        dataset_folder(raw_folder(), "Dataset901_Joint")
    with pytest.raises(UsageError, match=r"Unknown dataset '17'.*\n.*Dataset901_Joined"):
        dataset_folder(raw_folder(), 17)


@needs_real_data
def test_three_head_and_neck_sets_become_one(site):
    names = ("headneck_nerve", "headneck_glands", "headneck_bone")
    specs = tuple(SPECS / f"{name}.yaml" for name in names)
    result = run_assemble(AssembleConfig(specs=specs, root=REAL_DATA, dataset_id=901, name="Joined"))
    report = result.report.as_json()
    assert report["cases"] == len(list((site.out / "labelsTr").iterdir())) == 102
    annotating = {name: row["cases_annotating"] for name, row in report["structures"].items()}
    assert annotating == {
        "brainstem": 40,
        "spinal_cord": 62,
        "parotid_gland_right": 40,
        "parotid_gland_left": 40,
        "mandible": 22,
    }
    assert report["pairs"]["checked"] == 40
    case = load_structures(site.out).cases["HeadNeckBone_pt_104"]
    assert case.annotated == ("spinal_cord", "mandible")
    assert set(case.z_extent) == {"spinal_cord"}


@needs_real_data
def test_totalsegmentators_own_layout(site):
    (site.root / "Totalsegmentator_dataset_v201").symlink_to(REAL_DATA / "totalsegmentator_sample")
    report = site.assemble(SPECS / "totalsegmentator_v2.yaml")
    assert len(report["structures"]) == 58
    assert len(report["left_out"]) == 59
    assert report["pairs"]["checked"] == 18
    sample = REAL_DATA / "totalsegmentator_sample/s0000/segmentations/kidney_left.nii.gz"
    kidney = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(sample))) > 0
    integers = report["structures"]["kidney_left"]["integers"]
    assert np.array_equal(np.isin(site.labels("TotalSegmentatorV2_s0000"), integers), kidney)
