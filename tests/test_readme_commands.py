"""Pages of README and docs, run as they stand: on phantoms, on a CPU, with few steps."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import checkpoint_files
import pytest
import SimpleITK
from conftest import KNOWN, PLANS_NAME, REPOSITORY, SOURCES, Lab, succeed
from documents import README, blocks, section
from nnunet_shell import environment
from warm_process import write_scripts

from fsseg.demo.phantom_datasets import write_phantom_datasets

pytestmark = pytest.mark.full  # each page is half a dozen processes
DOCS = REPOSITORY / "docs"
IMAGE_CASE = "new_0"
# What a test has to add to the words of a user with a GPU and an afternoon.
SHORTENED = """
set -eu
fsseg() {
    case "$1 ${2-}" in
        "adapt "* | "nnunet plans") command fsseg "$@" --set recipe.max_steps=3 ;;
        "import supervised"*) command fsseg "$@" --plans coarse.json ;;
        "preprocess "*) command fsseg "$@" --plans tiny_cpu.json ;;
        "pretrain "*) command fsseg "$@" --plans tiny_cpu --steps 4 --set steps_per_epoch=2 ;;
        *) command fsseg "$@" ;;
    esac
}
nnUNetv2_preprocess() { command nnUNetv2_preprocess "$@" -np 1; }
nnUNetv2_train() { command nnUNetv2_train "$@" -device cpu; }
nnUNetv2_predict() { command nnUNetv2_predict "$@" -device cpu -npp 1 -nps 1; }
nnUNetv2_predict_from_modelfolder() { command nnUNetv2_predict_from_modelfolder "$@" -device cpu -npp 1 -nps 1; }
"""


def lines_of(document: Path, title: str) -> str:
    """Return the bash blocks of a section, in order."""
    return "\n".join(blocks(section(document, title), "bash"))


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


def run_commands(lines: str, hospital: Lab) -> str:
    """Run lines of bash in the folder of a hospital; return what they printed."""
    env = environment(hospital, hospital.root / "nnUNet_results")
    del env["nnUNet_extTrainer"]  # the page sets it
    scripts = write_scripts(hospital.root / "scripts")
    env["PATH"] = os.pathsep.join([str(scripts), str(Path(sys.executable).parent), env["PATH"]])
    done = subprocess.run(
        ["bash", "-c", SHORTENED + lines],
        cwd=hospital.root,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_page_for_nnunet_users(hospital: Lab) -> None:
    titles = ("Adapt a trained nnU-Net", "Stay with nnU-Net's commands")
    printed = run_commands("\n".join(lines_of(DOCS / "nnunet.md", title) for title in titles), hospital)
    assert json.loads((hospital.root / "runs/new_hospital/split.json").read_text(encoding="utf-8"))["support"]
    assert f"{KNOWN} (known)" in printed
    assert (hospital.root / "predictions" / f"{IMAGE_CASE}.nii.gz").is_file()
    results = hospital.root / "nnUNet_results"
    few = results / "Dataset104_NewHospital" / "nnUNetTrainerFewShot__few__3d_fullres" / "fold_0"
    assert (few / "validation" / "summary.json").is_file()
    assert (results / SOURCES / "nnUNetTrainerPartialLabel__nnUNetResEncUNetMPlans__3d_fullres/fold_0").is_dir()


def rename_structures(hospital: Lab) -> None:
    """Give two structures of the phantoms the names of the page."""
    file = hospital.root / "raw" / "Dataset104_NewHospital" / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    named = {"stomach": "larynx", "pancreas": "esophagus"}
    content["labels"] = {named.get(name, name): integer for name, integer in content["labels"].items()}
    file.write_text(json.dumps(content), encoding="utf-8")


def test_page_on_adapting_scores_test_cases_only(hospital: Lab) -> None:
    rename_structures(hospital)
    lines = lines_of(DOCS / "adapting.md", "Adapt")
    for page, here in (("MyOrgan", "NewHospital"), ("tail -n 15", "tail -n 2"), ("--shots 5", "--shots 2")):
        assert page in lines
        lines = lines.replace(page, here)
    run_commands(lines, hospital)
    tested = (hospital.root / "test_cases.txt").read_text(encoding="utf-8").split()
    with (hospital.root / "metrics.csv").open(newline="", encoding="utf-8") as file:
        assert [row["case"] for row in csv.DictReader(file)] == tested
    manifest = json.loads((hospital.root / "metrics.manifest.json").read_text(encoding="utf-8"))
    assert manifest["result"]["support_cases"] == []
    split = json.loads((hospital.root / "runs/larynx/split.json").read_text(encoding="utf-8"))
    assert split["test"] == tested
    predicted = json.loads((hospital.root / "predictions" / "dataset.json").read_text(encoding="utf-8"))
    assert predicted["support_cases"] == sorted(split["support"])


@pytest.mark.slow
def test_page_from_a_public_checkpoint(hospital: Lab) -> None:
    """At 8 mm instead of 1.5, so that the phantoms are small."""
    rename_structures(hospital)
    weights = hospital.root / "supervised_suprem_segresnet_2100.pth"
    checkpoint_files.suprem_segresnet(weights)
    succeed("import", weights, "--out", hospital.root / "fine")
    plans = json.loads((hospital.root / "fine" / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"]["3d_fullres"] |= {"spacing": [8.0, 8.0, 8.0], "patch_size": [16, 16, 16]}
    (hospital.root / "coarse.json").write_text(json.dumps(plans), encoding="utf-8")
    printed = run_commands(lines_of(DOCS / "bases.md", "From download to mask"), hospital)
    assert "zero-shot" in printed
    assert "larynx (novel)" in printed
    assert "esophagus (known)" in printed
    assert "expected DSC by leave-one-out" in printed
    ours, stock = (
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(hospital.root / folder / f"{IMAGE_CASE}.nii.gz")))
        for folder in ("predictions", "predictions_stock")
    )
    assert (ours == stock).mean() > 0.999


def test_main_job_of_the_readme_on_the_phantoms_of_the_demo(lab: Lab, tmp_path: Path) -> None:
    raw = tmp_path / "fsseg_demo" / "nnUNet_raw"
    write_phantom_datasets(raw, cases_per_source=2, target_cases=7)
    (tmp_path / "fsseg_demo" / "nnUNet_preprocessed").mkdir()
    (tmp_path / "fsseg_demo" / "test_cases.txt").write_text("target_005\ntarget_006\n", encoding="utf-8")
    shutil.copyfile(lab.plans, tmp_path / lab.plans.name)
    lines = lines_of(README, "The main job")
    assert "--plans phantom_plans" in lines  # for which `SHORTENED` takes those of the tests
    run_commands(lines, Lab(tmp_path, lab.plans, lab.base, lab.pretrained, lab.test_list, lab.pool_list))
    split = json.loads((tmp_path / "runs/stomach/split.json").read_text(encoding="utf-8"))
    assert sorted(split["support"]) == [f"target_{index:03d}" for index in range(5)]
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["target_005", "target_006"]
