"""ITK writes a NIfTI file that the disk has no room for to its half, and says nothing: fsseg does.

A limit on the size of a file stands for the full disk. It holds for a process, so each test starts one.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import yaml
from conftest import Lab

EXTENT = 32  # of a label map that does not compress below the limit
LIMIT_BYTES = 2000


def run_with_limit(words: list[object], limit: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        encoding="utf-8",
    )


def noise(path: Path, low: int = 0, high: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).integers(low, high, (EXTENT,) * 3)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.astype(np.int16)), str(path))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_an_image_that_is_not_written_whole_is_an_error(tmp_path: Path, ending: str) -> None:
    noise(tmp_path / "whole.nii.gz")
    program = (
        "from pathlib import Path\n"
        "from fsseg.data.images import read_image, write_image\n"
        f"write_image(read_image(Path('whole.nii.gz')), Path('written{ending}'))\n"
    )
    program = f"import os; os.chdir({str(tmp_path)!r})\n{program}"
    enough, full = (run_with_limit(["-c", program], limit) for limit in (1 << 20, LIMIT_BYTES))
    assert enough.returncode == 0, enough.stderr
    assert full.returncode != 0
    assert f"FssegError: A file was not written whole, truncated or damaged: written{ending}" in full.stderr
    assert "The disk is full" in full.stderr


def test_assemble_leaves_no_truncated_label_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw").mkdir()
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)  # other tests have a dataset of this number there
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    noise(tmp_path / "Masks" / "a" / "ct.nii.gz", -1000, 1000)
    noise(tmp_path / "Masks" / "a" / "seg" / "liver.nii.gz")
    spec = {
        "name": "Masks",
        "folder": "Masks",
        "modality": "CT",
        "licence": "CC0",
        "citation": "nobody",
        "layout": {"kind": "mask_per_structure", "image": "{case}/ct.nii.gz", "mask": "{case}/seg/{label}.nii.gz"},
        "labels": {"liver": "liver"},
        "annotated": ["liver"],
    }
    (tmp_path / "masks.yaml").write_text(yaml.safe_dump(spec))
    words = ["-m", "fsseg", "assemble", tmp_path / "masks.yaml", "--root", tmp_path, "--id", 901, "--name", "Joined"]
    outcome = run_with_limit(words, LIMIT_BYTES)
    assert outcome.returncode == 1
    assert "not written whole" in outcome.stderr
    assert "Masks_a.nii.gz" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert list((tmp_path / "raw").iterdir()) == []


def test_predict_leaves_no_truncated_label_map(lab: Lab, tmp_path: Path) -> None:
    words = ["-m", "fsseg", "predict", "--run", lab.base, "--input", lab.target / "imagesTr", "--device", "cpu"]
    outcome = run_with_limit([*words, "--cases", lab.case(0), "--output", tmp_path / "out"], 400)
    assert outcome.returncode == 1
    assert "not written whole" in outcome.stderr
    assert f"{lab.case(0)}.nii.gz" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert list(tmp_path.iterdir()) == []
