"""The Python API does what the commands do: same adapter, same messages; nothing is written until it is saved."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from conftest import fsseg as command
from conftest import succeed, tree
from phantom_collections import save
from tiny_model import small_image, write_tiny_model

import fsseg
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.staging import staging_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.training import fit
from fsseg.training.fit_checkpoint import FitCheckpoint

LEAVES_REPORTS = True  # see conftest.py
CASES = ("case_a", "case_b", "case_c")
SETTINGS: dict[str, Any] = {
    "dataset": 104,
    "structures": ["larynx"],
    "shots": 2,
    "method": "lora",
    "rank": 2,
    "decoder": "tuned",
    "recipe": {"max_steps": 2, "batch_size": 1},
    "seed": 1,
    "device": "cpu",
}
WORDS = ["--dataset", 104, "--structure", "larynx", "--shots", 2, "--method", "lora", "--decoder", "tuned"]
WORDS += ["--set", "rank=2", "recipe.max_steps=2", "recipe.batch_size=1", "--seed", 1, "--device", "cpu"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny base, and a dataset of three labelled images."""
    root = tmp_path_factory.mktemp("site")
    write_tiny_model(root / "base")
    raw = root / "raw" / "Dataset104_Necks"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for seed, case in enumerate(CASES):
        image = small_image(seed)
        labels = np.zeros(SimpleITK.GetArrayViewFromImage(image).shape, np.uint8)
        labels[4:14, 4:12, 4 + seed : 12 + seed] = 1
        label_map = SimpleITK.GetImageFromArray(labels)
        label_map.CopyInformation(image)
        save(image, raw / "imagesTr" / f"{case}_0000.nii.gz")
        save(label_map, raw / "labelsTr" / f"{case}.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "larynx": 1}, "numTraining": 3}
    (raw / "dataset.json").write_text(json.dumps(content | {"file_ending": ".nii.gz"}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(root / "raw"))
        patch.setenv("nnUNet_preprocessed", str(root / "preprocessed"))
        yield root


@pytest.fixture(scope="module")
def result(site: Path) -> Any:
    return fsseg.adapt(fsseg.load_model(site / "base"), **SETTINGS)


@pytest.fixture(scope="module")
def run(site: Path) -> Path:
    out = site / "by_command"
    succeed("adapt", "--checkpoint", site / "base", *WORDS, "--out", out)
    return out


def test_what_is_saved_is_what_the_command_writes(result: Any, run: Path, tmp_path: Path) -> None:
    result.save(tmp_path / "saved")
    ours, theirs = tree(tmp_path / "saved"), tree(run)
    assert ours.keys() == theirs.keys()
    same = {name for name in theirs if ours[name] == theirs[name]}
    assert theirs.keys() - same <= {"manifest.json", "fold_0/checkpoint_final.pth", "report.html"}  # seconds, folder
    saved, written = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "saved", run))
    assert saved.keys() == written.keys()
    differing = {key for key in saved if saved[key] != written[key]}
    assert differing <= {"config", "fit_seconds", "seconds", "peak_memory_mib"}
    assert saved["config"] == written["config"] | {"out": str(tmp_path / "saved")}
    assert ModelFolder.read(tmp_path / "saved").sha256 == ModelFolder.read(run).sha256


def test_nothing_is_written_before_it_is_saved(site: Path) -> None:
    before = set(site.rglob("*")) - set((site / "preprocessed").rglob("*"))
    fsseg.adapt(site / "base", **SETTINGS)
    assert set(site.rglob("*")) - set((site / "preprocessed").rglob("*")) == before


def test_a_prediction_is_that_of_the_command(result: Any, run: Path, site: Path, tmp_path: Path) -> None:
    image = site / "raw" / "Dataset104_Necks" / "imagesTr" / "case_c_0000.nii.gz"
    mask = result.predict(image)
    assert mask.GetSize() == SimpleITK.ReadImage(str(image)).GetSize()
    succeed("predict", "--run", run, "--input", image, "--output", tmp_path / "out", "--device", "cpu")
    theirs = SimpleITK.ReadImage(str(tmp_path / "out" / "case_c.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(mask), SimpleITK.GetArrayFromImage(theirs))
    assert mask.GetOrigin() == pytest.approx(theirs.GetOrigin())
    with pytest.raises(UsageError, match="holds 3 cases"):
        result.predict(image.parent)


def test_a_run_folder_can_be_written_at_once_with_an_estimate(site: Path, run: Path, tmp_path: Path) -> None:
    """A method that does not merge leaves an adapter alone; the estimate is typed."""
    more = {**SETTINGS, "method": "linear_probe", "decoder": None, "estimate": "loo", "out": tmp_path / "run"}
    del more["rank"]
    result = fsseg.adapt(site / "base", **more)
    assert (tmp_path / "run" / "adapter.safetensors").is_file()
    assert set(result.estimate) == {"larynx"}
    assert set(result.estimate["larynx"].cases) == set(result.plan.support)
    assert result.training.steps == 2
    with pytest.raises(UsageError, match="exists already"):
        fsseg.adapt(site / "base", **more)


def test_the_command_resumes_what_the_api_has_begun(
    site: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = fit.optimisation_step, []

    def stopped(*arguments: Any, **options: Any) -> Any:
        if len(taken) == 1:
            raise KeyboardInterrupt
        taken.append(None)
        return step(*arguments, **options)

    def at_once(self: FitCheckpoint, file: Path, fingerprint: str) -> None:
        original(self, file, fingerprint, minutes=0.0)

    original, out = FitCheckpoint.__init__, tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fit, "optimisation_step", stopped)
        patch.setattr(FitCheckpoint, "__init__", at_once)
        with pytest.raises(KeyboardInterrupt):
            fsseg.adapt(site / "base", **SETTINGS, out=out)
    assert (staging_of(out) / "training.pt").is_file()
    resumed = succeed("adapt", "--checkpoint", site / "base", *WORDS, "--out", out)
    assert resumed["resumed_at"] == [1]
    adapter = "adapter.safetensors"
    assert (out / adapter).read_bytes() == (run / adapter).read_bytes()


def test_lists_of_cases_are_names_or_files(site: Path) -> None:
    result = fsseg.adapt(site / "base", **{**SETTINGS, "shots": 1, "pool": ["case_b"], "test": ["case_a"]})
    assert result.plan.support == ("case_b",)
    assert fsseg.adapt(site / "base", **SETTINGS, cases=["case_c"]).plan.support == ("case_c",)


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"method": "lora", "rnk": 2}, ["--set", "rnk=2"], "unknown key 'rnk'; did you mean 'rank'?"),
        ({"method": "lroa"}, ["--method", "lroa"], "Unknown method 'lroa'. Did you mean 'lora'?"),
        ({"structures": ["larinx"]}, ["--structure", "larinx"], "Unknown structure 'larinx'. Did you mean 'larynx'?"),
        ({"recipe": "fesft"}, ["--recipe", "fesft"], "Unknown recipe 'fesft'. Did you mean 'fseft'?"),
    ],
)
def test_a_mistake_has_the_message_of_the_command(
    site: Path, tmp_path: Path, changes: dict[str, Any], words: list[str], message: str
) -> None:
    plain = ["adapt", "--checkpoint", site / "base", "--dataset", 104, "--out", tmp_path / "run"]
    structure = [] if "--structure" in words else ["--structure", "larynx"]
    outcome = command(*plain, *structure, *words)
    assert outcome.code == 2
    assert message in outcome.err
    asked = {"dataset": 104, "structures": ["larynx"], **changes}
    with pytest.raises(UsageError) as refused:
        fsseg.adapt(site / "base", **asked)
    assert str(refused.value) in outcome.err


def test_misspelt_settings_are_named_all_at_once(site: Path) -> None:
    with pytest.raises(UsageError) as refused:
        fsseg.adapt(site / "base", **SETTINGS, estimat="loo", devise="cpu", ranks=3)
    for text in (
        "'estimat'; did you mean 'estimate'?",
        "'devise'; did you mean 'device'?",
        "'ranks'; did you mean 'rank'",
    ):
        assert text in str(refused.value)
    with pytest.raises(UsageError, match=r"2 errors in the arguments(.|\n)*structures(.|\n)*shots"):
        fsseg.adapt(site / "base", **{**SETTINGS, "structures": "larynx", "shots": 0})


def test_a_checkpoint_file_is_imported_once(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = site / "base" / "fold_0" / "checkpoint_final.pth"
    first = fsseg.load_model(file)
    (folder,) = (tmp_path / "fsseg" / "imported").iterdir()
    assert first.path == folder
    assert first.structures.names == fsseg.load_model(site / "base").structures.names
    monkeypatch.setattr("fsseg.api.run_import", None)
    assert fsseg.load_model(file).sha256 == first.sha256
    with pytest.raises(FssegError, match="Leave it out"):
        fsseg.load_model(site / "base", family="auto")
