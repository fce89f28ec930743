"""What a base's own reader reads is adapted, predicted and scored, where ITK alone would refuse it."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from conftest import Lab, fsseg, succeed

from fsseg.data.dicom_series import read_series
from fsseg.data.images import UnreadableImageError
from fsseg.nnunet.image_readers import reader_of_dataset


@pytest.fixture
def nibabel_base(lab: Lab, tmp_path: Path) -> Path:
    """Return a base whose plans read images by nibabel, as nnU-Net plans .nii files."""
    return lab.copy_base(tmp_path / "by_nibabel", reader="NibabelIOWithReorient")


@pytest.fixture
def sheared(site: Lab) -> Lab:
    """Return a copy of the target dataset whose files are sheared by 1.1 degrees, with nothing but an sform."""
    for path in (*site.target.glob("imagesTr/*"), *site.target.glob("labelsTr/*")):
        shear(path)
    return site


def shear(path: Path) -> None:
    image = nibabel.load(path)
    affine = image.affine @ np.array([[1, 0, 0, 0], [0, 1, 0.0192, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    array = np.asanyarray(image.dataobj)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    result = nibabel.Nifti1Image(array, None, header)
    result.set_sform(affine, 1)
    result.set_qform(None, 0)
    result.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    path.unlink()
    nibabel.save(result, path)


def test_sheared_images_are_predicted_and_scored(sheared: Lab, nibabel_base: Path, tmp_path: Path) -> None:
    words = ("--input", sheared.target / "imagesTr", "--cases", sheared.case(0), "--output", tmp_path / "out")
    refused = fsseg("predict", "--run", sheared.base, *words)
    assert refused.code == 1
    assert "sheared by" in refused.err
    succeed("predict", "--run", nibabel_base, *words)
    written = tmp_path / "out" / f"{sheared.case(0)}.nii.gz"
    assert np.allclose(nibabel.load(written).affine, nibabel.load(sheared.image(0)).affine, atol=1e-3)
    scored = succeed(
        "evaluate", "--prediction", tmp_path / "out", "--reference", sheared.target / "labelsTr",
        "--cases", sheared.case(0), "--out", tmp_path / "scores.csv",
    )  # fmt: skip
    assert scored["cases"] == 1


def test_sheared_support_cases_are_adapted_by_a_base_that_reads_them(
    sheared: Lab, nibabel_base: Path, tmp_path: Path
) -> None:
    cases = ("--cases", sheared.case(0), sheared.case(1), "--dry-run")
    assert "sheared by" in fsseg(*sheared.adapt_words(tmp_path / "out", *cases)).err
    succeed(*sheared.adapt_words(tmp_path / "out", *cases, base=nibabel_base))


def test_the_reader_of_a_dataset_is_the_one_that_nnunet_chooses(sheared: Lab) -> None:
    plain = {"file_ending": ".nii.gz"}
    assert reader_of_dataset(plain, sheared.image(0)) == "nibabel"
    assert reader_of_dataset(plain | {"overwrite_image_reader_writer": "SimpleITKIO"}, sheared.image(0)) == "ITK"
    SimpleITK.WriteImage(SimpleITK.Image([4, 4, 4], SimpleITK.sitkInt16), str(sheared.root / "straight.nii.gz"))
    assert reader_of_dataset(plain, sheared.root / "straight.nii.gz") == "ITK"
    sheared.image(0).write_bytes(gzip.compress(b"no image"))
    assert reader_of_dataset(plain, sheared.image(0)) == "ITK"


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [as_pipe, as_device])
def test_no_command_waits_for_a_pipe_or_reads_a_device(
    site: Lab, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(site.image(0))
    damage(site.label(1))
    images, labels = site.target / "imagesTr", site.target / "labelsTr"
    for words in (
        ("preprocess", "--dataset", "804", "--plans", site.plans),
        site.adapt_words(tmp_path / "out", "--cases", site.case(0), site.case(1)),
        ("predict", "--run", site.base, "--input", images, "--output", tmp_path / "out"),
        ("evaluate", "--prediction", labels, "--reference", labels, "--out", tmp_path / "scores.csv"),
    ):
        outcome = fsseg(*words)
        assert outcome.code == 1
        assert "a pipe or device, not a file" in outcome.err
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize("damage", [as_pipe, as_device])
def test_no_series_holds_a_pipe_or_device(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    (tmp_path / "a.dcm").write_bytes(b"")
    damage(tmp_path / "a.dcm")
    with pytest.raises(UnreadableImageError, match="a pipe or device"):
        read_series(tmp_path)
