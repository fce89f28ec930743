"""nnU-Net's own commands with fsseg's trainers, as processes of their own."""

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from conftest import KNOWN, NOVEL, PLANS_NAME, SOURCES, TARGET, Lab, fsseg, succeed
from nnunet_shell import environment
from warm_process import program, script

from fsseg.data.structures import load_structures
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.training.torch_file import read_torch_file

TRAINER = "nnUNetTrainerPartialLabel"
CONFIGURATION = "3d_fullres"
FINAL = "fold_0/checkpoint_final.pth"
# Processes of nnUNetv2_predict that read images, and that write label maps; each of them starts anew and imports torch.
ONE_WORKER = ("-npp", 1, "-nps", 1)
IN_ONE_PROCESS = ("-npp", 0, "-nps", 0)


def run(command: str, *words: object, env: dict[str, str]) -> str:
    """Run one of nnU-Net's commands; return what it printed."""
    done = subprocess.run(
        script(command, *words), env=env, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def short_plans(lab: Lab) -> str:
    """Plans with settings for a training of four steps, beside the others of the sources."""
    plans = json.loads((lab.preprocessed / f"{PLANS_NAME}.json").read_text(encoding="utf-8"))
    plans["fsseg"] = {"pretrain": {"steps": 4, "steps_per_epoch": 2, "validation_crops": 4, "validation_share": 0.3}}
    plans["plans_name"] = "short"
    (lab.preprocessed / "short.json").write_text(json.dumps(plans), encoding="utf-8")
    return "short"


@pytest.fixture(scope="module")
def trained(
    lab: Lab, short_plans: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, str]]]:
    """A pretraining by `nnUNetv2_train`, with its validation."""
    results = tmp_path_factory.mktemp("results")
    env = environment(lab, results)
    cases = sorted(json.loads((lab.preprocessed / "structures.json").read_text(encoding="utf-8"))["cases"])
    splits = [{"train": cases[1:], "val": [cases[0], cases[-1]]}]
    (lab.preprocessed / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")
    run("nnUNetv2_train", 901, CONFIGURATION, 0, "-p", short_plans, "-tr", TRAINER, "-device", "cpu", env=env)
    yield results / SOURCES / f"{TRAINER}__{short_plans}__{CONFIGURATION}", env
    (lab.preprocessed / "splits_final.json").unlink()


@pytest.mark.full
def test_stock_training_leaves_a_model_folder(trained: tuple[Path, dict[str, str]]) -> None:
    folder, _ = trained
    model = ModelFolder.read(folder)
    assert model.build_network() is not None
    steps = [
        json.loads(line)["step"]
        for line in (folder / "fold_0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert steps == [2, 4]


@pytest.mark.full
def test_stock_validation_scores_annotated_structures_only(trained: tuple[Path, dict[str, str]], lab: Lab) -> None:
    folder, _ = trained
    structures = json.loads((lab.preprocessed / "structures.json").read_text(encoding="utf-8"))
    integers = {str(tuple(v) if len(v) > 1 else (v[0], v[0])): name for name, v in structures["integers"].items()}
    summary = json.loads((folder / "fold_0" / "validation" / "summary.json").read_text(encoding="utf-8"))
    assert summary["metric_per_case"]
    for entry in summary["metric_per_case"]:
        case = Path(entry["reference_file"]).name.removesuffix(".nii.gz")
        scored = {integers[key] for key in entry["metrics"]}
        assert scored == set(structures["cases"][case]["annotated"])
        assert len(scored) < len(structures["integers"])
        assert all(score["Dice"] is None or 0 <= score["Dice"] <= 1 for score in entry["metrics"].values())
    means = [entry["Dice"] for entry in summary["mean"].values() if entry["Dice"] is not None]
    assert summary["foreground_mean"]["Dice"] == pytest.approx(np.mean(means))


@pytest.mark.full
def test_stock_train_continues_and_validates_alone(
    trained: tuple[Path, dict[str, str]], lab: Lab, short_plans: str, tmp_path: Path
) -> None:
    folder, _ = trained
    env = environment(lab, tmp_path)
    words = (901, CONFIGURATION, 0, "-p", short_plans, "-tr", TRAINER, "-device", "cpu")
    stop_after = "import fsseg.nnunet.pretraining.trainer as m\n_end = m.nnUNetTrainerPartialLabel.on_epoch_end\n"
    stop_after += "def on_epoch_end(self):\n    _end(self)\n    raise SystemExit(3)\n"
    stop_after += "m.nnUNetTrainerPartialLabel.on_epoch_end = on_epoch_end\n"
    entry = f"{stop_after}from nnunetv2.run.run_training import run_training_entry\nrun_training_entry()\n"
    killed = subprocess.run(program(entry, *words), env=env, capture_output=True, check=False)
    assert killed.returncode == 3, killed.stderr[-2000:]
    run("nnUNetv2_train", *words, "--c", env=env)
    again = tmp_path / SOURCES / folder.name
    assert (again / "fold_0/metrics.jsonl").read_text(encoding="utf-8") == (folder / "fold_0/metrics.jsonl").read_text(
        encoding="utf-8"
    )
    ours, theirs = (read_torch_file(f / FINAL)["network_weights"] for f in (again, folder))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    (again / "fold_0" / "validation" / "summary.json").unlink()
    run("nnUNetv2_train", *words, "--val", env=env)
    summaries = [
        json.loads((f / "fold_0/validation/summary.json").read_text(encoding="utf-8"))["mean"] for f in (again, folder)
    ]
    assert summaries[0] == summaries[1]


@pytest.mark.full
def test_stock_prediction_accepts_the_result(trained: tuple[Path, dict[str, str]], lab: Lab, tmp_path: Path) -> None:
    env = {key: value for key, value in trained[1].items() if key != "nnUNet_extTrainer"}  # it names a stock trainer
    images = tmp_path / "images"
    images.mkdir()
    (images / lab.image(0).name).symlink_to(lab.image(0))
    words = ("-i", images, "-o", tmp_path / "out", "-d", 901, "-c", CONFIGURATION, "-f", 0, "-device", "cpu")
    run("nnUNetv2_predict", *words, "-tr", TRAINER, "-p", "short", *ONE_WORKER, env=env)
    written = SimpleITK.ReadImage(str(tmp_path / "out" / f"{lab.case(0)}.nii.gz"))
    assert written.GetSize() == SimpleITK.ReadImage(str(lab.image(0))).GetSize()


def test_pretrained_weights_reach_the_network(
    lab: Lab, short_plans: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch
    from nnunetv2.run.run_training import maybe_load_checkpoint

    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

    for name, value in environment(lab, tmp_path).items():
        monkeypatch.setenv(name, value)
    plans, dataset_json = (
        json.loads((lab.preprocessed / f"{name}.json").read_text(encoding="utf-8")) for name in (short_plans, "dataset")
    )
    trainer = nnUNetTrainerPartialLabel(
        plans | {"continue_training": False}, CONFIGURATION, 0, dataset_json, torch.device("cpu")
    )
    maybe_load_checkpoint(trainer, False, False, str(lab.base / FINAL))
    wanted = read_torch_file(lab.base / FINAL)["network_weights"]
    ours = trainer.plain_network.state_dict()
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted if ".seg_layers." not in name)


@pytest.mark.parametrize("trainer", ["PartialLabel", "FewShot"])
def test_the_best_checkpoint_is_refused_with_a_reason(trainer: str, tmp_path: Path) -> None:
    from fsseg.config.errors import UsageError
    from fsseg.nnunet.few_shot.trainer import FewShotTrainer
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

    kind = {"PartialLabel": nnUNetTrainerPartialLabel, "FewShot": FewShotTrainer}[trainer]
    with pytest.raises(UsageError, match="Leave --val_best out"):
        kind.load_checkpoint(object.__new__(kind), str(tmp_path / "checkpoint_best.pth"))


# Splits of few cases


@pytest.fixture
def few(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A preprocessed folder that holds the reference label maps of three cases."""
    folder = tmp_path / "preprocessed" / TARGET
    (folder / "gt_segmentations").mkdir(parents=True)
    for index in range(3):
        (folder / "gt_segmentations" / f"{lab.case(index)}.nii.gz").symlink_to(lab.label(index))
    (folder / "dataset.json").write_bytes((lab.target / "dataset.json").read_bytes())
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return folder


def test_leave_one_out_of_three_cases(lab: Lab, few: Path) -> None:
    splits = succeed("nnunet", "splits", "--dataset", 804)["splits"]
    assert splits == json.loads((few / "splits_final.json").read_text(encoding="utf-8"))
    assert [split["val"] for split in splits] == [[lab.case(index)] for index in range(3)]
    assert all(sorted(split["train"] + split["val"]) == [lab.case(index) for index in range(3)] for split in splits)


def test_one_case_is_trained_and_validated_on(lab: Lab, few: Path) -> None:
    for index in (1, 2):
        (few / "gt_segmentations" / f"{lab.case(index)}.nii.gz").unlink()
    assert succeed("nnunet", "splits", "--dataset", 804)["splits"] == [{"train": [lab.case(0)], "val": [lab.case(0)]}]


def test_folds_of_shots_are_nested_and_those_of_adapt(lab: Lab, few: Path, tmp_path: Path) -> None:
    from fsseg.data.splits import make_split

    one = succeed("nnunet", "splits", "--dataset", 804, "--shots", 1, "--folds", 4)["splits"]
    (few / "splits_final.json").unlink()
    two = succeed("nnunet", "splits", "--dataset", 804, "--shots", 2, "--folds", 4)["splits"]
    cases = [lab.case(index) for index in range(3)]
    for seed, (small, large) in enumerate(zip(one, two, strict=True)):
        assert tuple(small["train"]) == make_split(cases, shots=1, seed=seed).support
        assert set(small["train"]) < set(large["train"])
        assert sorted(large["train"] + large["val"]) == cases


@pytest.mark.parametrize("words", [(), ("--shots", 1, "--folds", 6)], ids=["leave-one-out", "shots"])
def test_a_fold_validates_on_no_image_that_it_trains_on(lab: Lab, few: Path, words: tuple[object, ...]) -> None:
    duplicates = (lab.case(0), lab.case(1))
    load_structures(lab.target).model_copy(update={"duplicates": (duplicates,)}).save(few)
    splits = succeed("nnunet", "splits", "--dataset", 804, *words)["splits"]
    assert any(set(duplicates) & set(split["train"]) for split in splits)
    assert not any(set(duplicates) & set(split["train"]) and set(duplicates) & set(split["val"]) for split in splits)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shots", 3), "3 shots leave none of 3 case"),
        (("--folds", 2), "--folds goes with --shots"),
        (("--shots", 0), "shots"),
        (("--dataset", 999), "Unknown dataset '999'"),
    ],
)
def test_bad_splits_are_refused(few: Path, words: tuple[object, ...], message: str) -> None:
    outcome = fsseg("nnunet", "splits", *(() if "--dataset" in words else ("--dataset", 804)), *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (few / "splits_final.json").exists()


def test_splits_that_exist_stay(few: Path) -> None:
    (few / "splits_final.json").write_text("[]")
    outcome = fsseg("nnunet", "splits", "--dataset", 804)
    assert outcome.code == 2
    assert "Splits exist already" in outcome.err
    assert (few / "splits_final.json").read_text(encoding="utf-8") == "[]"


# Few-shot adaptation


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, dict[str, str]]:
    """The target dataset in folders of its own, with few-shot plans of two methods, preprocessed by nnU-Net."""
    root = tmp_path_factory.mktemp("site")
    copy = lab.copy_target(root / "raw")
    (root / "preprocessed").mkdir()
    env = environment(copy, root / "results")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed"):
            patch.setenv(name, env[name])
        for method in ("lora", "adaptformer"):
            words = ("nnunet", "plans", "--checkpoint", lab.base, "--dataset", 804, "--shots", 2, "--method", method)
            succeed(*words, "--structure", NOVEL, KNOWN, "--name", method, "--set", *FEW_SHOT_SETTINGS)
        words = ("nnunet", "plans", "--checkpoint", lab.base, "--dataset", 804, "--method", "lora", "--name", "softmax")
        settings = (*FEW_SHOT_SETTINGS, "recipe.activation=softmax")
        succeed(*words, "--shots", 2, "--structure", NOVEL, KNOWN, "--set", *settings)
    run("nnUNetv2_preprocess", "-d", 804, "-plans_name", "lora", "-c", CONFIGURATION, "-np", 1, env=env)
    return copy, env


FEW_SHOT = "nnUNetTrainerFewShot"
FEW_SHOT_SETTINGS = ("recipe.max_steps=4", "recipe.head_learning_rate=0.05")


def few_shot_folder(site: tuple[Lab, dict[str, str]], method: str) -> Path:
    return Path(site[1]["nnUNet_results"]) / TARGET / f"{FEW_SHOT}__{method}__{CONFIGURATION}"


def test_stock_preprocessing_does_not_make_unknown_structures_background(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsseg.nnunet.preprocessed_structures import structures_of_preprocessed

    monkeypatch.setenv("nnUNet_raw", str(lab.root / "raw"))
    (tmp_path / SOURCES).mkdir()
    (tmp_path / SOURCES / "dataset.json").write_bytes((lab.preprocessed / "dataset.json").read_bytes())
    found = structures_of_preprocessed(tmp_path / SOURCES)
    assert found.cases == structures_of_preprocessed(lab.preprocessed).cases
    assert (tmp_path / SOURCES / "structures.json").is_file()  # where the validation looks for it


@pytest.fixture(scope="module")
def train_fold(site: tuple[Lab, dict[str, str]]) -> Callable[[str], Path]:
    """Trains fold 1 with the plans of a method by `nnUNetv2_train`, once."""

    @cache
    def train(method: str) -> Path:
        words = (804, CONFIGURATION, 1, "-p", method, "-tr", FEW_SHOT, "-device", "cpu", "--npz")
        run("nnUNetv2_train", *words, env=site[1])
        return few_shot_folder(site, method)

    return train


@pytest.fixture(scope="module", params=["lora", "adaptformer", "softmax"])
def adapted(request: pytest.FixtureRequest, train_fold: Callable[[str], Path]) -> tuple[str, Path]:
    """A trained fold: of a method that merges, of one that does not, and of exclusive classes."""
    return request.param, train_fold(request.param)


@pytest.mark.full
def test_stock_training_adapts_on_leave_one_out_folds(
    adapted: tuple[str, Path], site: tuple[Lab, dict[str, str]]
) -> None:
    _, folder = adapted
    lab, _ = site
    split = json.loads((folder / "fold_1" / "split.json").read_text(encoding="utf-8"))
    assert len(split["support"]) == 2
    assert lab.case(1) not in split["support"]
    summary = json.loads((folder / "fold_1" / "validation" / "summary.json").read_text(encoding="utf-8"))
    assert [Path(entry["reference_file"]).name for entry in summary["metric_per_case"]] == [f"{lab.case(1)}.nii.gz"]
    assert len(summary["mean"]) == 2
    assert len((folder / "fold_1" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    assert not (folder / "fold_1" / "checkpoint_latest.pth").exists()
    (log,) = (folder / "fold_1").glob("training_log_*.txt")
    text = log.read_text(encoding="utf-8")
    for line in ("Epoch 0", "Current learning rate: 0", "train_loss ", "Epoch time: ", "Training done: 4 steps"):
        assert line in text
    assert (folder / "fold_1" / "progress.png").is_file()
    numbered_anew = "integers of their own" in text
    assert numbered_anew == (adapted[0] == "softmax")


@pytest.mark.full
def test_stock_prediction_needs_the_trainer_only_where_the_method_does_not_merge(
    adapted: tuple[str, Path], site: tuple[Lab, dict[str, str]], tmp_path: Path
) -> None:
    method, _ = adapted
    lab, env = site
    images = tmp_path / "images"
    images.mkdir()
    (images / lab.image(0).name).symlink_to(lab.image(0))
    words = ("-i", images, "-d", 804, "-c", CONFIGURATION, "-f", 1, "-device", "cpu", "-tr", FEW_SHOT, "-p", method)
    plain = {key: value for key, value in env.items() if key != "nnUNet_extTrainer"}
    workers = IN_ONE_PROCESS if method == "softmax" else ONE_WORKER  # with workers once for each kind of method
    run("nnUNetv2_predict", *words, "-o", tmp_path / "out", *workers, env=plain if method == "lora" else env)
    ours = tmp_path / "ours"
    adapter = few_shot_folder(site, method) / "fold_1" / "adapter.safetensors"
    succeed("predict", "--base", lab.base, "--adapter", adapter, "--input", images, "--output", ours)
    written, expected = (
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(out / f"{lab.case(0)}.nii.gz")))
        for out in (tmp_path / "out", ours)
    )
    assert (written == expected).mean() > 0.999


@pytest.mark.full
@pytest.mark.parametrize("method", ["lora", "adaptformer"])
def test_trainer_and_adapt_take_the_same_steps_on_the_same_batches(
    site: tuple[Lab, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """nnU-Net keeps a sample of the foreground voxels, so crops differ; here the trainer gets the volumes of adapt."""
    import torch
    from safetensors.torch import load_file

    from fsseg.adaptation.support import support_volumes
    from fsseg.adaptation.trainer import nnUNetTrainerFewShot
    from fsseg.nnunet.preprocessing import CasePreprocessor
    from fsseg.nnunet.raw_dataset import read_raw_dataset

    lab, env = site
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, env[name])
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    support = [lab.case(2), lab.case(0)]
    words = lab.adapt_words(tmp_path / "run", "--cases", *support, "--set", *FEW_SHOT_SETTINGS, method=method)
    succeed(*words)
    folder = Path(env["nnUNet_preprocessed"]) / TARGET
    plans, dataset_json = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in (method, "dataset")
    )
    trainer = nnUNetTrainerFewShot(
        plans | {"continue_training": False}, CONFIGURATION, 0, dataset_json, torch.device("cpu")
    )
    trainer.fold_folder.mkdir(parents=True, exist_ok=True)
    job = trainer.job
    trainer.adapt(
        support_volumes(read_raw_dataset(lab.target), job.target, support, CasePreprocessor(job.base, cache=None))
    )
    ours = load_file(trainer.fold_folder / "adapter.safetensors")
    theirs = load_file(tmp_path / "run" / "adapter.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=0, atol=1e-6), name


@pytest.mark.full
def test_test_cases_are_in_no_fold(
    site: tuple[Lab, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from fsseg.adaptation.trainer import nnUNetTrainerFewShot

    lab, env = site
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, env[name])
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    (tmp_path / "test.txt").write_text(lab.case(3), encoding="utf-8")
    words = ("nnunet", "plans", "--checkpoint", lab.base, "--dataset", 804, "--structure", NOVEL)
    made = succeed(*words, "--test", tmp_path / "test.txt", "--name", "tested")
    assert (made["method"], made["decoder"], made["test"]) == ("lora", "tuned", [lab.case(3)])
    succeed(*words, "--cases", lab.case(2), lab.case(0), "--name", "named")
    folder = Path(env["nnUNet_preprocessed"]) / TARGET

    def split(plans: str, fold: int | str) -> tuple[list[str], list[str]]:
        files = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in (plans, "dataset"))
        content, dataset_json = files
        more = {"continue_training": False}
        return nnUNetTrainerFewShot(content | more, CONFIGURATION, fold, dataset_json, torch.device("cpu")).do_split()

    pool = [lab.case(index) for index in range(3)]
    assert split("tested", "all") == (pool, [])
    assert [split("tested", fold) for fold in range(3)] == [
        ([other for other in pool if other != case], [case]) for case in pool
    ]
    assert split("named", "all") == ([lab.case(0), lab.case(2)], [])
    assert split("named", 1) == ([lab.case(0)], [lab.case(2)])
    stock = [{"train": [lab.case(0), lab.case(3)], "val": [lab.case(1), lab.case(2)]}]
    (folder / "splits_final.json").write_text(json.dumps(stock), encoding="utf-8")
    assert split("tested", 0) == ([lab.case(0)], [lab.case(1), lab.case(2)])
    (folder / "splits_final.json").unlink()
    (tmp_path / "test.txt").write_text("nobody", encoding="utf-8")
    outcome = fsseg(*words, "--test", tmp_path / "test.txt", "--name", "other")
    assert outcome.code == 2
    assert "Unknown test case 'nobody'" in outcome.err
    outcome = fsseg(*words, "--cases", lab.case(0), "--shots", 1)
    assert "--cases names the support cases" in outcome.err
    for name in ("tested", "named"):
        (folder / f"{name}.json").unlink()


@pytest.mark.full
def test_pretrained_weights_are_refused_where_the_plans_name_the_base(
    lab: Lab, site: tuple[Lab, dict[str, str]], tmp_path: Path
) -> None:
    words = (804, CONFIGURATION, 0, "-p", "lora", "-tr", FEW_SHOT, "-device", "cpu")
    done = subprocess.run(
        script("nnUNetv2_train", *words, "-pretrained_weights", lab.base / FINAL),
        env=site[1] | {"nnUNet_results": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "Leave -pretrained_weights out" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_stock_validation_alone_gives_the_same_scores(
    adapted: tuple[str, Path], site: tuple[Lab, dict[str, str]]
) -> None:
    method, folder = adapted
    before = json.loads((folder / "fold_1" / "validation" / "summary.json").read_text(encoding="utf-8"))
    words = (804, CONFIGURATION, 1, "-p", method, "-tr", FEW_SHOT, "-device", "cpu", "--val")
    run("nnUNetv2_train", *words, env=site[1])
    after = json.loads((folder / "fold_1" / "validation" / "summary.json").read_text(encoding="utf-8"))
    assert after["mean"] == before["mean"]


STOP_AFTER_TWO_STEPS = """
from fsseg.training.fit_checkpoint import FitCheckpoint
save, saved = FitCheckpoint.save, []
def save_and_stop(self, state, *, now):
    save(self, state, now=True)
    saved.append(True)
    if len(saved) == 2:
        raise SystemExit(3)
FitCheckpoint.save = save_and_stop
"""
COUNT_STEPS = """
import atexit
from fsseg.training import fit
step, steps = fit.optimisation_step, []
fit.optimisation_step = lambda *words, **more: steps.append(True) or step(*words, **more)
atexit.register(lambda: print("steps taken:", len(steps)))
"""
TRAIN = "from nnunetv2.run.run_training import run_training_entry\nrun_training_entry()\n"


@pytest.mark.full
def test_stock_training_goes_on_where_an_adaptation_was_stopped(
    site: tuple[Lab, dict[str, str]], train_fold: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = train_fold("lora") / "fold_1"
    env = site[1] | {"nnUNet_results": str(tmp_path)}
    words = (804, CONFIGURATION, 1, "-p", "lora", "-tr", FEW_SHOT, "-device", "cpu")
    stopped, resumed = (
        subprocess.run(program(code, *words, *more), env=env, capture_output=True, encoding="utf-8")
        for code, more in ((STOP_AFTER_TWO_STEPS + TRAIN, ()), (COUNT_STEPS + TRAIN, ("--c",)))
    )
    assert stopped.returncode == 3, stopped.stderr[-2000:]
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "steps taken: 2" in resumed.stdout
    fold = tmp_path / TARGET / whole.parent.name / "fold_1"
    assert (fold / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = (read_torch_file(f / "checkpoint_final.pth")["network_weights"] for f in (fold, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.full
def test_stock_ensembling_and_choice_of_a_configuration_score_as_fsseg_does(
    site: tuple[Lab, dict[str, str]], train_fold: Callable[[str], Path]
) -> None:
    """On cases that annotate everything; the integers of predictions and references have to be the same ones."""
    folders = {method: train_fold(method) for method in ("lora", "adaptformer")}
    words = (804, "-p", *folders, "-c", CONFIGURATION, "-tr", FEW_SHOT, "-f", 1, "-np", 1)
    run("nnUNetv2_find_best_configuration", *words, env=site[1])
    results = Path(site[1]["nnUNet_results"]) / TARGET
    scores = json.loads((results / "inference_information.json").read_text(encoding="utf-8"))["all_results"]
    assert len(scores) == 3  # the third is their ensemble
    for folder in folders.values():
        summary = json.loads((folder / "fold_1" / "validation" / "summary.json").read_text(encoding="utf-8"))
        assert scores[folder.name] == pytest.approx(summary["foreground_mean"]["Dice"])
        assert scores[folder.name] > 0


@pytest.mark.full
def test_predictions_of_folds_and_methods_are_ensembled(
    site: tuple[Lab, dict[str, str]], train_fold: Callable[[str], Path], tmp_path: Path
) -> None:
    lab, env = site
    images = tmp_path / "images"
    images.mkdir()
    (images / lab.image(0).name).symlink_to(lab.image(0))
    words = ("-i", images, "-d", 804, "-c", CONFIGURATION, "-f", 1, "-device", "cpu", "-tr", FEW_SHOT)
    more = (*IN_ONE_PROCESS, "--save_probabilities")
    members = []
    for method in ("lora", "adaptformer"):
        train_fold(method)
        members.append(tmp_path / method)
        run("nnUNetv2_predict", *words, "-p", method, "-o", members[-1], *more, env=env)
    run("nnUNetv2_ensemble", "-i", *members, "-o", tmp_path / "both", "-np", 1, env=env)
    probabilities = [np.load(member / f"{lab.case(0)}.npz")["probabilities"].astype(np.float32) for member in members]
    mean = sum(probabilities) / 2
    written = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "both" / f"{lab.case(0)}.nii.gz")))
    content = json.loads((members[0] / "dataset.json").read_text(encoding="utf-8"))
    expected = np.zeros(written.shape, dtype=written.dtype)
    for channel, integer in zip(mean, content["regions_class_order"], strict=True):
        expected[channel > 0.5] = integer
    # nnU-Net saves probabilities in its own orientation; how many voxels are which structure does not depend on it.
    assert np.array_equal(*(np.unique(labels, return_counts=True)[1] for labels in (written, expected)))
    assert len(np.unique(written)) > 1


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "lorra"), "Did you mean 'lora'"),
        (("--method", "lora", "--structure", "stomac"), "Did you mean 'stomach'"),
        (("--method", "lora", "--set", "rank=4000"), "larger than"),
        (("--method", "lora", "--name", "lora"), "Plans exist already"),
        (("--method", "lora", "--set", "rnk=2"), "rank"),
    ],
)
def test_bad_plans_are_refused(
    lab: Lab,
    site: tuple[Lab, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, site[1][name])
    before = sorted((Path(site[1]["nnUNet_preprocessed"]) / TARGET).iterdir())
    outcome = fsseg("nnunet", "plans", "--checkpoint", lab.base, "--dataset", 804, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert sorted((Path(site[1]["nnUNet_preprocessed"]) / TARGET).iterdir()) == before


# From nnU-Net to fsseg


@pytest.mark.full
def test_what_the_stock_trainer_left_is_a_base(
    lab: Lab, site: tuple[Lab, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, env = site
    env = {**env, "nnUNet_results": str(tmp_path / "results"), "nnUNet_compile": "f"}
    preprocessed = Path(env["nnUNet_preprocessed"]) / TARGET
    (preprocessed / "dataset_fingerprint.json").write_text("{}", encoding="utf-8")  # is copied, not read
    words = (804, CONFIGURATION, "all", "-p", "lora", "-tr", STOCK, "-device", "cpu")
    done = subprocess.run(program(SHORT_EPOCHS + TRAIN, *words), env=env, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    stock = tmp_path / "results" / TARGET / f"{STOCK}__lora__{CONFIGURATION}"
    monkeypatch.setenv("nnUNet_raw", env["nnUNet_raw"])
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    (tmp_path / "preprocessed").mkdir()
    facts = succeed(*copy.adapt_words(tmp_path / "run", "--set", *FEW_SHOT_SETTINGS, base=stock))
    assert set(facts["structures"].values()) == {"known"}
    assert ModelFolder.read(tmp_path / "run").plans["plans_name"] == "lora"


STOCK = "nnUNetTrainer_1epoch"
SHORT_EPOCHS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
begin = nnUNetTrainer.on_train_start
def on_train_start(self):
    begin(self)
    self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 2
nnUNetTrainer.on_train_start = on_train_start
"""
