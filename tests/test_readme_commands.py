"""The README's page for nnU-Net users, run as it stands: on phantoms, on a CPU, with few steps."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KNOWN, PLANS_NAME, REPOSITORY, SOURCES, Lab
from test_nnunet_commands import environment

SECTION = "For nnU-Net users"
IMAGE_CASE = "new_0"
# What a test has to add to the words of a user with a GPU and an afternoon.
SHORTENED = """
set -eu
fsseg() {
    case "$1 ${2-}" in
        "adapt "* | "nnunet plans") command fsseg "$@" --set recipe.max_steps=3 ;;
        *) command fsseg "$@" ;;
    esac
}
nnUNetv2_preprocess() { command nnUNetv2_preprocess "$@" -np 1; }
nnUNetv2_train() { command nnUNetv2_train "$@" -device cpu; }
nnUNetv2_predict() { command nnUNetv2_predict "$@" -device cpu -npp 1 -nps 1; }
nnUNetv2_predict_from_modelfolder() { command nnUNetv2_predict_from_modelfolder "$@" -device cpu -npp 1 -nps 1; }
"""


def commands() -> str:
    """Return the bash blocks of the section, in order."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {SECTION}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL))


@pytest.fixture
def hospital(lab: Lab, tmp_path: Path) -> Lab:
    """What the page assumes: a trained nnU-Net, a universal base, five labelled cases in nnU-Net's raw format."""
    (source,) = (lab.root / "sources").glob("Dataset*_PhantomTarget*")
    target = tmp_path / "raw" / "Dataset104_NewHospital"
    shutil.copytree(source, target)
    images, labels = sorted((target / "imagesTr").iterdir()), sorted((target / "labelsTr").iterdir())
    shutil.copyfile(images[0], target / "imagesTr" / "again_0000.nii.gz")
    shutil.copyfile(labels[0], target / "labelsTr" / "again.nii.gz")
    trained = "Dataset101_Liver/nnUNetTrainer__nnUNetPlans__3d_fullres"
    for folder in (tmp_path / "nnUNet_results" / trained, tmp_path / "runs" / "universal"):
        shutil.copytree(lab.base, folder)
    sources = tmp_path / "preprocessed" / SOURCES
    shutil.copytree(lab.preprocessed, sources)
    plans = json.loads((sources / f"{PLANS_NAME}.json").read_text(encoding="utf-8"))
    plans["fsseg"] = {"pretrain": {"steps": 2, "steps_per_epoch": 2, "validation_crops": 2}}
    plans["plans_name"] = "nnUNetResEncUNetMPlans"
    (sources / "nnUNetResEncUNetMPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    (tmp_path / "images").mkdir()
    shutil.copyfile(images[1], tmp_path / "images" / f"{IMAGE_CASE}_0000.nii.gz")
    return Lab(tmp_path, lab.plans, lab.base, lab.pretrained, lab.test_list, lab.pool_list)


def test_page_for_nnunet_users(hospital: Lab) -> None:
    results = hospital.root / "nnUNet_results"
    env = environment(hospital, results)
    del env["nnUNet_extTrainer"]  # the page sets it
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    done = subprocess.run(
        ["bash", "-c", SHORTENED + commands()],
        cwd=hospital.root,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert json.loads((hospital.root / "runs/new_hospital/split.json").read_text(encoding="utf-8"))["support"]
    assert f"{KNOWN} (known)" in done.stdout
    assert (hospital.root / "predictions" / f"{IMAGE_CASE}.nii.gz").is_file()
    few = results / "Dataset104_NewHospital" / "nnUNetTrainerFewShot__few__3d_fullres" / "fold_0"
    assert (few / "validation" / "summary.json").is_file()
    assert (results / SOURCES / "nnUNetTrainerPartialLabel__nnUNetResEncUNetMPlans__3d_fullres/fold_0").is_dir()
