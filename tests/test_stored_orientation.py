"""Bases of stock nnU-Net read images as they are stored, and must not see some of them mirrored unsaid."""

from pathlib import Path

import pytest
import SimpleITK
from conftest import Lab, fsseg, succeed


@pytest.fixture
def stock(lab: Lab, tmp_path: Path) -> Path:
    """A base with nnU-Net's usual reader."""
    return lab.copy_base(tmp_path / "stock", reader="SimpleITKIO")


def store(orientation: str, *files: Path) -> None:
    for file in files:
        image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(file)), orientation)
        file.unlink()
        SimpleITK.WriteImage(image, str(file))


def words_of(site: Lab, base: Path, out: Path) -> list[object]:
    return site.adapt_words(out, "--cases", site.case(0), site.case(1), base=base)


def test_a_base_that_turns_images_says_nothing(site: Lab, tmp_path: Path) -> None:
    store("LPS", site.image(1), site.label(1))
    facts = succeed(*words_of(site, site.base, tmp_path / "run"), "--dry-run")
    assert not any("as they are stored" in note for note in facts["notes"])


def test_the_orientation_of_the_support_cases_is_said_and_a_mixture_refused(
    site: Lab, stock: Path, tmp_path: Path
) -> None:
    for case in (0, 1):
        store("LPS", site.image(case), site.label(case))
    facts = succeed(*words_of(site, stock, tmp_path / "run"), "--dry-run")
    assert sum("as they are stored, here LPS" in note for note in facts["notes"]) == 1
    store("RAS", site.image(1), site.label(1))
    outcome = fsseg(*words_of(site, stock, tmp_path / "run"))
    assert outcome.code == 2
    assert f"LPS: {site.case(0)}; RAS: {site.case(1)}" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_prediction_of_a_mixture_warns(
    site: Lab, stock: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store("RAS", site.image(0))
    store("LPS", site.image(1))
    words = ("--input", site.target / "imagesTr", "--cases", site.case(0), site.case(1), "--output", tmp_path / "out")
    succeed("predict", "--run", stock, *words, "--dry-run")
    assert f"RAS: {site.case(0)}; LPS: {site.case(1)}" in caplog.text
    caplog.clear()
    succeed("predict", "--run", site.base, *words, "--dry-run")
    assert "stored" not in caplog.text
