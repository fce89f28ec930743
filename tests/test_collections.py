"""Every shipped spec of a public collection assembles a tiny phantom in the layout of that collection."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from phantom_collections import Phantom, ct, image_of, phantom, save, save_series

from fsseg.checkpoints.class_lists import MULTITALENT_47
from fsseg.config.errors import UsageError
from fsseg.data.conflicts import resolved_names
from fsseg.data.spec_loading import load_spec, load_specs
from fsseg.data.specs import DatasetSpec
from fsseg.data.structures import load_structures
from fsseg.stages.assemble import AssembleConfig, run_assemble

SPECS = Path(__file__).parents[1] / "dataset_specs"

# Spec -> case, image and label map as they lie below the root.
LABEL_MAPS = {
    "abdomenct_1k": (
        "Case_00401",
        "AbdomenCT-1K/AbdomenCT-1K-ImagePart2/Case_00401_0000.nii.gz",
        "AbdomenCT-1K/Mask/Case_00401.nii.gz",
    ),
    "abdomenct_12organ": (
        "Organ12_0007",
        "AbdomenCT-12organ/img/Organ12_0007_0000.nii.gz",
        "AbdomenCT-12organ/label/Organ12_0007.nii.gz",
    ),
    "amos22": ("amos_0500", "amos22/imagesTr/amos_0500.nii.gz", "amos22/labelsTr/amos_0500.nii.gz"),
    "btcv": (
        "0001",
        "Abdomen/RawData/Training/img/img0001.nii.gz",
        "Abdomen/RawData/Training/label/label0001.nii.gz",
    ),
    "btcv2": (
        "0040",
        "BTCV2/RawData/Training/img/img0040.nii.gz",
        "BTCV2/label_btcv_multiorgan/label0040.nii.gz",
    ),
    "btcv2_test": (
        "0061",
        "BTCV2/RawData/Testing/img/img0061.nii.gz",
        "BTCV2/label_btcv_multiorgan/label0061.nii.gz",
    ),
    "btcv_cervix": (
        "0507688",
        "Cervix/RawData/Training/img/0507688-Image.nii.gz",
        "Cervix/RawData/Training/label/0507688-Mask.nii.gz",
    ),
    "ct_org": ("17", "CT-ORG/OrganSegmentations/volume-17.nii.gz", "CT-ORG/OrganSegmentations/labels-17.nii.gz"),
    "flare22": (
        "FLARE22_Tr_0001",
        "FLARE22Train/images/FLARE22_Tr_0001_0000.nii.gz",
        "FLARE22Train/labels/FLARE22_Tr_0001.nii.gz",
    ),
    "flare22_tuning": ("FLARETs_0001", "Tuning/images/FLARETs_0001_0000.nii.gz", "Tuning/labels/FLARETs_0001.nii.gz"),
    "kits19": (
        "case_00000",
        "kits19/data/case_00000/imaging.nii.gz",
        "kits19/data/case_00000/segmentation.nii.gz",
    ),
    "kits21": (
        "case_00000",
        "kits21/kits21/data/case_00000/imaging.nii.gz",
        "kits21/kits21/data/case_00000/aggregated_MAJ_seg.nii.gz",
    ),
    "kits23": (
        "case_00400",
        "kits23/dataset/case_00400/imaging.nii.gz",
        "kits23/dataset/case_00400/segmentation.nii.gz",
    ),
    "lits": ("28", "LITS/Training Batch 2/volume-28.nii", "LITS/Training Batch 2/segmentation-28.nii"),
    "msd03_liver": ("liver_0", "Task03_Liver/imagesTr/liver_0.nii.gz", "Task03_Liver/labelsTr/liver_0.nii.gz"),
    "msd06_lung": ("lung_001", "Task06_Lung/imagesTr/lung_001.nii.gz", "Task06_Lung/labelsTr/lung_001.nii.gz"),
    "msd07_pancreas": (
        "pancreas_001",
        "Task07_Pancreas/imagesTr/pancreas_001.nii.gz",
        "Task07_Pancreas/labelsTr/pancreas_001.nii.gz",
    ),
    "msd08_hepatic_vessel": (
        "hepaticvessel_001",
        "Task08_HepaticVessel/imagesTr/hepaticvessel_001.nii.gz",
        "Task08_HepaticVessel/labelsTr/hepaticvessel_001.nii.gz",
    ),
    "msd09_spleen": ("spleen_2", "Task09_Spleen/imagesTr/spleen_2.nii.gz", "Task09_Spleen/labelsTr/spleen_2.nii.gz"),
    "msd10_colon": ("colon_001", "Task10_Colon/imagesTr/colon_001.nii.gz", "Task10_Colon/labelsTr/colon_001.nii.gz"),
    "segthor": ("Patient_01", "SegTHOR/train/Patient_01/Patient_01.nii.gz", "SegTHOR/train/Patient_01/GT.nii.gz"),
    "structseg_thorax": ("1", "Thoracic_OAR/1/data.nii.gz", "Thoracic_OAR/1/label.nii.gz"),
    "word": ("word_0002", "WORD/imagesTr/word_0002.nii.gz", "WORD/labelsTr/word_0002.nii.gz"),
    "word_test": ("word_0014", "WORD/imagesTs/word_0014.nii.gz", "WORD/labelsTs/word_0014.nii.gz"),
    "word_val": ("word_0001", "WORD/imagesVal/word_0001.nii.gz", "WORD/labelsVal/word_0001.nii.gz"),
}
# Spec -> case and the folder that holds ct.nii.gz and segmentations/<label>.nii.gz.
MASKS = {
    "abdomenatlas_10": ("BDMAP_00000001", "AbdomenAtlas1.0Mini/BDMAP_00000001"),
    "abdomenatlas_11": ("BDMAP_00000001", "AbdomenAtlas1.1Mini/BDMAP_00000001"),
    "totalsegmentator_v1": ("s0000", "Totalsegmentator_dataset/s0000"),
    "totalsegmentator_v2": ("s0000", "Totalsegmentator_dataset_v201/s0000"),
}
SERIES = ("btcv2_pancreas", "chaos", "nih_pancreas")
# nnU-Net raw folders, which test_assemble.py covers.
RAW_FOLDERS = ("headneck_bone", "headneck_glands", "headneck_nerve", "headneck_target", "hippocampus")

FSEFT = (
    *("btcv", "chaos", "lits", "kits21", "abdomenct_1k", "amos22", "ct_org", "abdomenct_12organ"),
    *("msd03_liver", "msd06_lung", "msd07_pancreas", "msd08_hepatic_vessel", "msd09_spleen", "msd10_colon"),
)
MULTITALENT = (
    *("msd03_liver", "msd06_lung", "msd07_pancreas", "msd08_hepatic_vessel", "msd09_spleen", "msd10_colon"),
    *("btcv", "btcv2", "btcv2_test", "btcv2_pancreas", "structseg_thorax", "segthor", "nih_pancreas", "kits19"),
    "btcv_cervix",
)


def read_spec(name: str) -> DatasetSpec:
    return load_spec(SPECS / f"{name}.yaml")


def phantom_of(spec: DatasetSpec) -> Phantom:
    return phantom(spec.meanings, spec.split_sides)


def assembled(root: Path, *names: str, **options: Any) -> tuple[dict[str, Any], Path]:
    specs = tuple(SPECS / f"{name}.yaml" for name in names)
    result = run_assemble(AssembleConfig(specs=specs, root=root, dataset_id=901, name="Joined", **options))
    assert result.out is not None
    return result.report.as_json(), result.out


def require_case(out: Path, case: str, expected: Phantom, prefix: str = "") -> None:
    """Compare the joined label map with the phantom, structure by structure, in the orientation of the image."""
    structures = load_structures(out)
    assert sorted(structures.cases[case].annotated) == sorted(prefix + name for name in expected.structures)
    image, labels = (
        SimpleITK.ReadImage(str(out / path)) for path in (f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz")
    )
    for what in ("Size", "Spacing", "Origin", "Direction"):
        assert np.allclose(getattr(image, f"Get{what}")(), getattr(labels, f"Get{what}")(), atol=1e-3)
    assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "LPS")), ct())
    array = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(labels, "LPS"))
    for name, mask in expected.structures.items():
        assert np.array_equal(np.isin(array, structures.integers[prefix + name]), mask), name


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "raw").mkdir()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)  # other tests have a dataset of this number there
    return tmp_path / "root"


def write_label_map(root: Path, name: str, orientation: str = "LPS") -> tuple[DatasetSpec, Phantom]:
    spec = read_spec(name)
    expected = phantom_of(spec)
    _, image, labels = LABEL_MAPS[name]
    save(image_of(ct(), orientation), root / image)
    save(image_of(expected.label_map(), orientation), root / labels)
    return spec, expected


def test_every_shipped_spec_is_assembled_here_or_is_a_raw_folder() -> None:
    shipped = {path.stem for path in SPECS.glob("*.yaml")}
    assert shipped == {*LABEL_MAPS, *MASKS, *SERIES, *RAW_FOLDERS}


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_label_map_collection(name: str, root: Path) -> None:
    # KiTS stores the axes from head to feet first, others from right to left; the sides must not depend on it.
    orientation = "SPL" if name.startswith("kits") else "RAI"
    spec, expected = write_label_map(root, name, orientation)
    report, out = assembled(root, name)
    require_case(out, f"{spec.name}_{LABEL_MAPS[name][0]}", expected)
    assert report["sources"][spec.name]["known_issues"] == list(spec.known_issues)
    linked = (out / "imagesTr" / f"{spec.name}_{LABEL_MAPS[name][0]}_0000.nii.gz").stat().st_nlink > 1
    assert linked is (name != "lits")  # LiTS ships uncompressed files


@pytest.mark.parametrize("name", MASKS)
def test_mask_collection(name: str, root: Path) -> None:
    case, folder = MASKS[name]
    spec = read_spec(name)
    expected = phantom_of(spec)
    save(image_of(ct(), "RAI"), root / folder / "ct.nii.gz")
    for stem, mask in expected.labels.items():
        save(image_of(mask.astype(np.uint8), "RAI"), root / folder / "segmentations" / f"{stem}.nii.gz")
    _, out = assembled(root, name)
    require_case(out, f"{spec.name}_{case}", expected)


@pytest.mark.parametrize("first_is_top", [False, True], ids=["from feet to head", "from head to feet"])
def test_chaos_has_dicom_series_and_png_slices(root: Path, first_is_top: bool) -> None:
    expected = phantom_of(read_spec("chaos"))
    folder = root / "CHAOS_Train_Sets" / "Train_Sets" / "CT" / "7"
    save_series(image_of(ct()), folder / "DICOM_anon", "i{:04d},0000b.dcm", first_is_top)
    (folder / "Ground").mkdir()
    slices = expected.label_map()[::-1] if first_is_top else expected.label_map()
    for number, array in enumerate(slices):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / "Ground" / f"liver_GT_{number:03d}.png"))
    _, out = assembled(root, "chaos")
    require_case(out, "CHAOS_7", expected)


@pytest.mark.parametrize(
    ("name", "folder", "labels"),
    [
        ("nih_pancreas", "NIH-Pancreas", "TCIA_pancreas_labels-02-05-2017"),
        ("btcv2_pancreas", "BTCV2", "label_tcia_multiorgan"),
    ],
)
def test_labels_beside_a_dicom_series_are_laid_on_its_grid(root: Path, name: str, folder: str, labels: str) -> None:
    spec = read_spec(name)
    expected = phantom_of(spec)
    study = "Pancreas-CT/PANCREAS_0003/11-24-2015-PANCREAS0003-Pancreas-30748/Pancreas-99667"
    save_series(image_of(ct()), root / folder / study, "1-{:03d}.dcm", first_is_top=True)
    (root / folder / study).with_name("LICENSE").write_text("CC BY 3.0")
    label_image = image_of(expected.label_map(), "LAS")
    label_image.SetOrigin((0.0, 0.0, 0.0))
    save(label_image, root / folder / labels / "label0003.nii.gz")
    save(label_image, root / folder / labels / "label0025.nii.gz")  # the image was withdrawn
    report, out = assembled(root, name)
    require_case(out, f"{spec.name}_0003", expected)
    assert f"{spec.name}: cases without image or without labels are left out (1): 0025" in report["warnings"]


def test_files_that_are_no_cases_are_not_read(root: Path) -> None:
    write_label_map(root, "amos22")
    write_label_map(root, "msd03_liver")
    write_label_map(root, "kits19")
    save(image_of(ct()), root / "amos22/imagesTr/amos_0507.nii.gz")  # MR
    (root / "Task03_Liver/imagesTr/._liver_0.nii.gz").write_bytes(b"of a Mac")
    save(image_of(ct()), root / "kits19/data/case_00210/imaging.nii.gz")  # test set
    report, out = assembled(root, "amos22", "msd03_liver", "kits19")
    assert set(load_structures(out).cases) == {"AMOS22_amos_0500", "MSD03Liver_liver_0", "KiTS19_case_00000"}
    assert "KiTS19: cases without image or without labels are left out (1): case_00210" in report["warnings"]


def test_parts_of_one_collection_share_a_folder_and_their_channels(root: Path) -> None:
    for name in ("btcv2", "btcv2_test"):
        write_label_map(root, name)
    _, out = assembled(root, "btcv2", "btcv2_test", channels="per_dataset")
    require_case(out, "BTCV2_0040", phantom_of(read_spec("btcv2")), "btcv2__")
    cases = load_structures(out).cases
    assert cases["BTCV2Test_0061"].annotated[0] == "btcv2__esophagus"
    assert {case.collection or case.source for case in cases.values()} == {"BTCV2"}


def test_the_collections_of_fseft_make_one_set_of_structures() -> None:
    names = resolved_names(load_specs([SPECS / f"{name}.yaml" for name in FSEFT]))
    structures = {new for mapping in names.values() for new in mapping.values()}
    assert len(structures) == 28  # FSEFT has 29: it keeps the tumours of MSD08 apart from those of LiTS
    assert {"kidney_left", "lung_right", "kidney_cyst", "celiac_trunk", "prostate_or_uterus"} <= structures


def test_the_collections_of_multitalent_conflict_unless_every_dataset_has_its_own_channels() -> None:
    specs = load_specs([SPECS / f"{name}.yaml" for name in MULTITALENT])
    with pytest.raises(UsageError, match="channels per_dataset") as caught:
        resolved_names(specs)
    for structure in ("aorta", "heart", "trachea"):
        assert f"- {structure}:" in str(caught.value)
    names = resolved_names(specs, "per_dataset")
    channels = {new for mapping in names.values() for new in mapping.values()}
    # MultiTalent's 47, one more for the second kidney, six more because BTCV2 keeps all its structures.
    assert len(channels) == 47 + 1 + 6
    assert {"btcv__aorta", "segthor__aorta", "kits19__kidney_left"} <= channels
    # The rows of an imported MultiTalent network have the same names, but for kidneys that it does not split.
    assert set(MULTITALENT_47) - channels == {"kits19__kidney"}


def test_some_cases_can_be_taken_alone(root: Path) -> None:
    for name in ("amos22", "msd03_liver"):
        write_label_map(root, name)
    report, out = assembled(root, "amos22", "msd03_liver", cases=("AMOS22_amos_0500",))

    assert set(load_structures(out).cases) == {"AMOS22_amos_0500"}
    assert report["cases"] == 1
    with pytest.raises(UsageError, match=r"1 of the 2 cases that were asked for are not there: AMOS22_amos_0501"):
        assembled(root, "amos22", cases=("AMOS22_amos_0500", "AMOS22_amos_0501"), check=True)
