"""The way from datasets to a run and its predictions: what is written, that it is determined, that it resumes."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import KNOWN, NOVEL, PLANS_NAME, SOURCES, Lab, fsseg, start_fsseg, succeed, tree
from few_shot_job import job_and_volumes
from safetensors.torch import load_file
from tiers import as_full

from fsseg.adaptation.start import make_start
from fsseg.adaptation.support import support_volumes
from fsseg.adaptation.target import LabelledDataset, Target, frequency, make_target
from fsseg.config.errors import FssegError
from fsseg.config.few_shot import few_shot_settings
from fsseg.config.manifest import sha256_of_file
from fsseg.config.published_recipes import named_recipe
from fsseg.config.recipes import Recipe
from fsseg.config.staging import MARKER_NAME, staging_of
from fsseg.data.structures import CaseAnnotation, Structures, load_structures
from fsseg.methods.adapter_file import load_adapter
from fsseg.models.heads import NEW_ROW_STD
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset
from fsseg.training.torch_file import read_torch_file

CPU = torch.device("cpu")
LONG = 40  # steps of a pretraining that is interrupted
FINAL = Path("fold_0") / "checkpoint_final.pth"
LATEST = Path("fold_0") / "checkpoint_latest.pth"
SIDED = ("kidney_left", "kidney_right")
NORTH = {"liver", "spleen", "gallbladder"}  # what PhantomNorth annotates


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def losses(run: Path) -> list[Any]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def adapter(run: Path) -> bytes:
    return (run / "adapter.safetensors").read_bytes()


# --- what a run folder holds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_manifest_says_what_a_run_was_made_from(lab: Lab, adapted: Path, stage: str) -> None:
    run = lab.base if stage == "pretrain" else adapted
    manifest = read_json(run / "manifest.json")
    assert manifest["command"] == stage
    assert manifest["seed"] == 0
    assert manifest["config"]["out"] == str(run)
    assert {"python", "fsseg", "torch", "nnunetv2", "monai", "SimpleITK", "numpy"} <= set(manifest["versions"])
    assert "not installed" not in manifest["versions"].values()
    assert manifest["seconds"] > 0
    assert manifest["peak_memory_mib"]["host"] > 50
    assert len(manifest["inputs"]) == (3 if stage == "pretrain" else 4)
    assert all(sha256_of_file(Path(path)) == digest for path, digest in manifest["inputs"].items())


def test_adapted_run_holds_a_model_and_what_distinguishes_it_from_its_base(lab: Lab, adapted: Path) -> None:
    names = {path.relative_to(adapted).as_posix() for path in adapted.rglob("*") if path.is_file()}
    assert names == {
        "adapter.safetensors",
        "dataset.json",
        "fold_0/checkpoint_final.pth",
        "manifest.json",
        "metrics.jsonl",
        "plans.json",
        "report.html",
        "split.json",
    }
    assert not staging_of(adapted).exists()
    base = ModelFolder.read(lab.base)
    state, info = load_adapter(adapted / "adapter.safetensors")
    manifest = read_json(adapted / "manifest.json")
    trained = manifest["parameters"]["trainable"] + manifest["parameters"]["head"]
    assert sum(tensor.numel() for tensor in state.values()) == trained
    assert (info.method, info.decoder, info.options["rank"]) == ("lora", "tuned", 2)
    assert info.base_sha256 == base.sha256 == manifest["base"]["sha256"]
    assert "PhantomNorth: Apache-2.0" in info.base_licence
    assert info.structures == {NOVEL: None, KNOWN: base.structures.names.index(KNOWN)}
    assert manifest["structures"] == {NOVEL: "novel", KNOWN: "known"}
    assert ModelFolder.read(adapted).structures.names == (NOVEL, KNOWN)
    assert [line["step"] for line in losses(adapted)] == [1, 2, 3, 4, 5]
    assert read_json(adapted / "split.json")["support"] == manifest["support"] == list(info.support)


def test_pretrained_run_holds_a_model_folder(lab: Lab) -> None:
    names = {path.relative_to(lab.base).as_posix() for path in lab.base.rglob("*") if path.is_file()}
    needed = {"plans.json", "dataset.json", "structures.json", "manifest.json", "metrics.jsonl"}
    assert needed | {FINAL.as_posix()} <= names
    assert LATEST.as_posix() not in names
    assert [line["step"] for line in losses(lab.base)] == [2, 4, 6, 8, 10]
    assert all(len(line["losses"]) == 2 and np.isfinite(line["losses"]).all() for line in losses(lab.base))
    model = ModelFolder.read(lab.base)
    assert set(model.structures.names) == {*NORTH, "aorta", "inferior_vena_cava", *SIDED}
    assert model.mirroring_axes is None  # there are left and right kidneys
    assert lab.pretrained["parameters"] > 1000


def test_preprocessed_dataset_has_a_manifest_and_its_structures(lab: Lab) -> None:
    manifest = read_json(lab.preprocessed / "manifest.json")
    assert (manifest["dataset"], manifest["plans"], manifest["cases"]) == (SOURCES, PLANS_NAME, 6)
    assert load_structures(lab.preprocessed) == load_structures(lab.root / "raw" / SOURCES)


def commands(lab: Lab, adapted: Path, out: Path) -> dict[str, list[object]]:
    return {
        "preprocess": ["preprocess", "--dataset", "804", "--plans", lab.plans],
        "pretrain": lab.pretrain_words(out),
        "adapt": lab.adapt_words(out, "--cases", lab.case(1), lab.case(2), "--estimate", "loo"),
        "predict": ["predict", "--run", adapted, "--input", lab.target / "imagesTr", "--output", out],
    }


@pytest.mark.parametrize("command", ["preprocess", "pretrain", "adapt", "predict"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_dry_run_writes_nothing_and_says_what_would_happen(
    lab: Lab, adapted: Path, tmp_path: Path, command: str, form: str
) -> None:
    for entry in (lab.root / "preprocessed" / "fsseg_cache").glob("*"):
        entry.unlink()  # a cache may be deleted at any time; now nothing is found in it
    before = tree(lab.root)
    words = [*commands(lab, adapted, tmp_path / "out")[command], "--dry-run"]
    outcome = fsseg(*words, *(["--json"] if form == "json" else []))
    assert outcome.code == 0, outcome.err
    if form == "json":
        assert outcome.json["out"]
    else:
        assert "would" in outcome.out
    assert list(tmp_path.iterdir()) == []
    assert tree(lab.root) == before


@pytest.mark.parametrize("command", ["preprocess", "pretrain", "adapt", "predict"])
def test_json_alone_is_on_standard_output(lab: Lab, adapted: Path, tmp_path: Path, command: str) -> None:
    outcome = fsseg(*commands(lab, adapted, tmp_path / "out")[command], "--json")
    assert outcome.code == 0, outcome.err
    folder = lab.root / "preprocessed" / lab.target.name if command == "preprocess" else tmp_path / "out"
    assert outcome.json == read_json(folder / "manifest.json")  # parsing fails where anything else is printed
    assert outcome.json["command"] == command


def test_text_of_a_pretraining_says_why_there_is_no_validation(lab: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*lab.pretrain_words(tmp_path / "run", steps=2))
    assert outcome.code == 0, outcome.err
    assert "None" not in outcome.out
    assert "annotated in no held-out case: " in outcome.out
    assert "no case is held out: --fold all, validation_share=0, or fewer than 5 cases in every source" in outcome.out


def test_text_of_an_adaptation_names_counts_and_folder(lab: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", "--estimate", "loo"))
    assert outcome.code == 0, outcome.err
    assert f"{NOVEL} (novel)" in outcome.err
    assert "3 steps (step limit)" in outcome.out
    assert "expected DSC by leave-one-out" in outcome.out
    assert str(tmp_path / "run") in outcome.out


# --- a seed fixes everything ------------------------------------------------------------------------------------


def test_the_same_command_gives_the_same_adapter_and_another_seed_does_not(lab: Lab, tmp_path: Path) -> None:
    for name, seed in (("first", 5), ("second", 5), ("other", 6)):
        torch.manual_seed(hash(name) % 1000)  # whatever happened before must not matter
        np.random.seed(hash(name) % 1000)  # noqa: NPY002
        words = ("--seed", seed, "--cases", lab.case(0), lab.case(1))  # the same cases, so only the rest differs
        succeed(*lab.adapt_words(tmp_path / name, *words))
    assert torch.initial_seed() == hash("other") % 1000, "an adaptation seeds no generator of its caller"
    first, second, other = (load_file(tmp_path / n / "adapter.safetensors") for n in ("first", "second", "other"))
    assert adapter(tmp_path / "first") == adapter(tmp_path / "second")
    assert losses(tmp_path / "first") == losses(tmp_path / "second") != losses(tmp_path / "other")
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)
    weights = [ModelFolder.read(tmp_path / name).sha256 for name in ("first", "second", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_a_cached_case_gives_the_same_adapter_as_a_case_read_anew(lab: Lab, tmp_path: Path) -> None:
    succeed(*lab.adapt_words(tmp_path / "warm"))
    cache = lab.root / "preprocessed" / "fsseg_cache"
    entries = list(cache.glob("*.npz"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:1000])  # damaged, as after a crash of the machine
    succeed(*lab.adapt_words(tmp_path / "cold"))
    assert adapter(tmp_path / "warm") == adapter(tmp_path / "cold")


# --- cases ------------------------------------------------------------------------------------------------------


def support_of(lab: Lab, out: Path, *words: object) -> list[str]:
    return succeed(*lab.adapt_words(out, *words), "--dry-run")["support"]


@pytest.mark.parametrize("seed", [0, as_full(1)])
def test_support_draws_are_nested(lab: Lab, tmp_path: Path, seed: int) -> None:
    draws = [support_of(lab, tmp_path / "out", "--shots", shots, "--seed", seed) for shots in (1, 2, 3)]
    assert draws[0] == draws[1][:1]
    assert draws[1] == draws[2][:2]
    assert sorted(draws[2]) == [lab.case(index) for index in (0, 1, 2)]  # never the test case


@pytest.mark.full
def test_some_seed_draws_other_cases(lab: Lab, tmp_path: Path) -> None:
    draws = {tuple(support_of(lab, tmp_path / "out", "--shots", 1, "--seed", seed)) for seed in range(6)}
    assert len(draws) > 1


def test_test_cases_are_the_same_for_every_shot_seed_and_method(lab: Lab, tmp_path: Path) -> None:
    variants: list[tuple[str, list[object]]] = [
        ("lora", ["--shots", 1]),
        ("lora", ["--shots", 3, "--seed", 4]),
        ("linear_probe", ["--shots", 1]),
        ("decoder", ["--cases", lab.case(2)]),
    ]
    splits = []
    for index, (method, words) in enumerate(variants):
        more = [*words, "--set", "recipe.max_steps=1"]
        succeed(*lab.adapt_words(tmp_path / str(index), *more, method=method))
        splits.append(read_json(tmp_path / str(index) / "split.json"))
    assert [split["test"] for split in splits] == [[lab.case(3)]] * 4
    assert [split["shots"] for split in splits] == [1, 3, 1, 1]
    assert splits[0]["support"] == splits[2]["support"]  # every method of a seed sees the same cases
    assert splits[3]["support"] == [lab.case(2)]
    assert not any(set(split["test"]) & {*split["support"], *split["pool"]} for split in splits)


def test_pool_file_limits_the_draw(lab: Lab, tmp_path: Path) -> None:
    for seed in range(3):
        drawn = support_of(lab, tmp_path / "out", "--pool", lab.pool_list, "--shots", 2, "--seed", seed)
        assert sorted(drawn) == [lab.case(0), lab.case(2)]


def test_cases_by_name_are_the_support(lab: Lab, tmp_path: Path) -> None:
    assert support_of(lab, tmp_path / "out", "--cases", lab.case(2), lab.case(0)) == [lab.case(2), lab.case(0)]


def test_leave_one_out_scores_every_support_case(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    manifest = succeed(*lab.adapt_words(run, "--estimate", "loo", "--shots", 3))
    estimate = read_json(run / "estimate.json")
    assert set(estimate) == {NOVEL, KNOWN}
    assert manifest["estimate"] == read_json(run / "manifest.json")["estimate"] == estimate
    for spread in estimate.values():
        scores = spread["cases"]
        assert set(scores) == set(manifest["support"])
        assert all(0 <= score <= 1 for score in scores.values())
        assert spread["mean"] == pytest.approx(np.mean(list(scores.values())))
        assert (spread["lowest"], spread["highest"]) == (min(scores.values()), max(scores.values()))
    assert max(estimate[KNOWN]["cases"].values()) > 0
    plain = tmp_path / "plain"
    succeed(*lab.adapt_words(plain, "--shots", 3))
    first, second = (load_adapter(folder / "adapter.safetensors") for folder in (plain, run))
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(tensor, second[0][name]) for name, tensor in first[0].items())
    # The estimate changes nothing of the run, and goes with the adapter.
    assert first[1] == second[1].model_copy(update={"estimate": None})
    assert second[1].estimate == {name: spread["mean"] for name, spread in estimate.items()}


@pytest.mark.parametrize(
    ("method", "options"), [("l2_sp", ["alpha=1.0", "beta=1.0"]), ("adalora", ["rank=4", "target_rank=2"])]
)
def test_an_estimate_changes_nothing_of_what_a_method_with_a_state_trains(
    lab: Lab, tmp_path: Path, method: str, options: list[str]
) -> None:
    words = ("--set", "recipe.max_steps=4", *options)
    succeed(*lab.adapt_words(tmp_path / "plain", *words, method=method))
    succeed(*lab.adapt_words(tmp_path / "estimated", *words, "--estimate", "loo", method=method))
    assert losses(tmp_path / "plain") == losses(tmp_path / "estimated")
    first, second = (load_file(tmp_path / name / "adapter.safetensors") for name in ("plain", "estimated"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# --- the start of the head --------------------------------------------------------------------------------------


def head_of(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    head = network.decoder.seg_layers[-1]
    return head.weight.detach(), head.bias.detach()


def test_known_structure_starts_from_its_row_and_novel_one_from_its_frequency(lab: Lab) -> None:
    job, volumes = job_and_volumes(lab, "lora")
    weight, bias = head_of(make_start(job, volumes).network.network)
    old_weight, old_bias = head_of(job.base.build_network())
    row = job.base.structures.names.index(KNOWN)
    channel = {name: index for index, name in enumerate(job.target.names)}
    assert torch.equal(weight[channel[KNOWN]], old_weight[row])
    assert torch.equal(bias[channel[KNOWN]], old_bias[row])
    integer = read_json(lab.target / "dataset.json")["labels"][NOVEL][0]
    labels = np.concatenate([np.asarray(volume.labels).ravel() for volume in volumes])
    share = float((labels == integer).mean())
    assert 0 < share < 0.1
    assert float(bias[channel[NOVEL]]) == pytest.approx(np.log(share / (1 - share)), rel=1e-5)
    assert 0 < float(weight[channel[NOVEL]].abs().max()) < 0.1


def test_published_recipes_start_novel_rows_as_any_new_convolution(lab: Lab) -> None:
    """At their head rate of 1e-4 a bias at the logit of a rare structure would never come back."""
    job, volumes = job_and_volumes(lab, "decoder")
    settings = named_recipe("fseft", family="decoder", decoder="tuned", shots=2)
    adapted = make_start(replace(job, recipe=Recipe(**settings)), volumes).network
    weight, bias = head_of(adapted.network)
    channel = {name: index for index, name in enumerate(job.target.names)}
    bound = weight.shape[1] ** -0.5  # torch starts a convolution within one over the root of its inputs
    assert abs(float(bias[channel[NOVEL]])) <= bound
    assert 5 * NEW_ROW_STD < float(weight[channel[NOVEL]].abs().max()) <= bound
    assert torch.equal(weight[channel[KNOWN]], head_of(job.base.build_network())[0][job.target.base_rows[KNOWN]])


def test_new_rows_of_heads_that_nobody_trains_are_zeros(lab: Lab) -> None:
    job, volumes = job_and_volumes(lab, "full")
    *lower, full_resolution = make_start(job, volumes).network.network.decoder.seg_layers
    channel = job.target.names.index(NOVEL)
    assert lower
    assert all(not head.weight[channel].any() and not head.bias[channel].any() for head in lower)
    assert full_resolution.weight[channel].any()


def test_head_new_starts_a_known_structure_like_a_novel_one(lab: Lab) -> None:
    job, volumes = job_and_volumes(lab, "lora", head="new")
    assert job.target.base_rows == {KNOWN: None, NOVEL: None}
    weight, bias = head_of(make_start(job, volumes).network.network)
    old_weight, _ = head_of(job.base.build_network())
    channel = job.target.names.index(KNOWN)
    assert not torch.equal(weight[channel], old_weight[job.base.structures.names.index(KNOWN)])
    assert 0 < float(weight[channel].abs().max()) < 0.1
    share = frequency(volumes, job.target, channel)
    assert float(bias[channel]) == pytest.approx(np.log(share / (1 - share)), rel=1e-5)


def test_head_new_is_said_and_goes_with_the_adapter(lab: Lab, tmp_path: Path) -> None:
    note = f"the base knows {KNOWN}, but its head rows are not used"
    facts = succeed(*lab.adapt_words(tmp_path / "run", "--head", "new", method="linear_probe"))
    assert any(note in said for said in facts["notes"])
    assert facts["structures"] == {NOVEL: "novel", KNOWN: "known"}
    assert load_adapter(tmp_path / "run" / "adapter.safetensors")[1].structures == {NOVEL: None, KNOWN: None}
    facts = succeed(*lab.adapt_words(tmp_path / "base", "--head", "base", "--dry-run"))
    assert not any(note in said for said in facts["notes"])
    plans = ("nnunet", "plans", "--checkpoint", lab.base, "--dataset", "804", "--method", "lora", "--head", "new")
    written = read_json(Path(succeed(*plans, "--structure", KNOWN, "--name", "new_head")["out"]))
    assert few_shot_settings(written).head == "new"


def test_from_scratch_takes_no_pretrained_row(lab: Lab) -> None:
    job, volumes = job_and_volumes(lab, "from_scratch")
    weight, _ = head_of(make_start(job, volumes).network.network)
    old_weight, _ = head_of(job.base.build_network())
    assert not any(torch.equal(row, old) for row in weight for old in old_weight)


def test_frequency_counts_annotated_voxels_only(lab: Lab) -> None:
    job, (first, second) = job_and_volumes(lab, "lora")
    channel = job.target.names.index(NOVEL)
    unknown = second.zone_annotated.copy()
    unknown[:, channel] = False
    silent = replace(second, zone_annotated=unknown)
    alone = frequency([first], job.target, channel)
    assert alone > 0
    assert frequency([first, silent], job.target, channel) == alone
    assert frequency([first, second], job.target, channel) != alone


# --- killed and resumed -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def uninterrupted(lab: Lab) -> Path:
    out = lab.root / "runs" / "uninterrupted"
    succeed(*lab.pretrain_words(out, steps=LONG))
    return out


def interrupt(process: subprocess.Popen, when: Path, how: signal.Signals) -> tuple[int, str, str]:
    """Send a signal as soon as a file exists; return exit code, standard output and standard error."""
    deadline = time.monotonic() + 120
    try:
        while not when.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, f"it ended before {when} existed: {process.communicate()[1]}"
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def assert_equal_pretrainings(run: Path, reference: Path) -> None:
    assert (run / "metrics.jsonl").read_text(encoding="utf-8") == (reference / "metrics.jsonl").read_text(
        encoding="utf-8"
    )
    ours, theirs = (read_torch_file(folder / FINAL) for folder in (run, reference))
    assert list(ours["network_weights"]) == list(theirs["network_weights"])
    for name, tensor in theirs["network_weights"].items():
        assert torch.equal(ours["network_weights"][name], tensor), name
    for number, state in theirs["optimizer_state"]["state"].items():
        assert torch.equal(ours["optimizer_state"]["state"][number]["exp_avg"], state["exp_avg"])
    assert ours["current_epoch"] == theirs["current_epoch"] == LONG // 2
    assert not staging_of(run).exists()
    assert not (run / LATEST).exists()


@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "Ctrl-C"])
def test_an_interrupted_pretraining_resumes_to_the_same_result(
    lab: Lab, uninterrupted: Path, tmp_path: Path, how: signal.Signals
) -> None:
    run = tmp_path / "run"
    words = lab.pretrain_words(run, steps=LONG)
    code, out, err = interrupt(start_fsseg(*words), staging_of(run) / LATEST, how)
    assert not run.exists()
    done = read_torch_file(staging_of(run) / LATEST)["current_epoch"]
    assert 0 < done < LONG // 2
    if how == signal.SIGINT:
        assert code == 1
        assert "stopped by Ctrl-C" in err
        assert "--resume" in err
        assert "Traceback" not in err
        assert out == ""
    again = fsseg(*words)
    assert again.code == 2
    assert "Continue it with --resume" in again.err
    if how == signal.SIGKILL:  # killed while a line of metrics was written
        with (staging_of(run) / "metrics.jsonl").open("a") as file:
            file.write('{"step": 9999, "loss')
    succeed(*words, "--resume")
    assert_equal_pretrainings(run, uninterrupted)


def test_pretraining_takes_exactly_the_steps_asked_for(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeed(*lab.pretrain_words(run, steps=3))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [2, 3]  # epochs of two steps, the last one shorter
    assert [len(line["losses"]) for line in lines] == [2, 1]


def test_a_pretraining_that_fails_at_its_very_end_is_not_lost(
    lab: Lab, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = lab.pretrain_words(run, steps=LONG)
    with monkeypatch.context() as patch:
        patch.setattr("fsseg.config.manifest.Manifest.write", fail_with(OSError(28, os.strerror(28))))
        failed = fsseg(*words)
    assert (failed.code, run.exists()) == (1, False)
    assert "No space left on device" in failed.err
    assert (staging_of(run) / FINAL).exists()
    trained: list[Any] = []
    monkeypatch.setattr(
        "fsseg.nnunet.pretraining.seeded_trainer.optimisation_step",
        lambda *_, **__: trained.append(1) or (0.0, True),
    )
    succeed(*words, "--resume")
    assert trained == []
    assert_equal_pretrainings(run, uninterrupted)


def fail_with(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.full
def test_a_killed_adaptation_leaves_no_run_and_can_be_run_again(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = lab.adapt_words(run, "--set", "recipe.max_steps=2000")
    code, _, _ = interrupt(start_fsseg(*words), staging_of(run), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not run.exists()
    succeed(*lab.adapt_words(run))
    succeed(*lab.adapt_words(tmp_path / "reference"))
    assert adapter(run) == adapter(tmp_path / "reference")
    assert not staging_of(run).exists()


@pytest.mark.parametrize(
    "moment",
    [
        "fsseg.adaptation.fitted.train",
        "fsseg.data.splits.Split.save",
        "fsseg.adaptation.run_files.save_adapter",
        "fsseg.nnunet.model_folder.ModelFolder.write",
        "fsseg.nnunet.model_folder.save_checkpoint",
        "fsseg.config.manifest.Manifest.write",
        "fsseg.config.run_folder.os.replace",
    ],
)
def test_an_adaptation_stopped_at_any_moment_leaves_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(moment, fail_with(KeyboardInterrupt()))
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", "--set", "recipe.max_steps=1"))
    assert outcome.code == 1
    assert "stopped by Ctrl-C" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_behind_does_not_get_into_the_next_run(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (staging_of(run) / "fold_0").mkdir(parents=True)
    (staging_of(run) / MARKER_NAME).touch()
    (staging_of(run) / "estimate.json").write_text("{}")
    (staging_of(run) / "adapter.safetensors.tmp").write_bytes(b"half")
    succeed(*lab.adapt_words(run, "--set", "recipe.max_steps=1"))
    assert not (run / "estimate.json").exists()
    assert not list(run.rglob("*.tmp"))
    assert not staging_of(run).exists()


# --- partial labels ---------------------------------------------------------------------------------------------


@pytest.fixture
def trainer(lab: Lab, tmp_path: Path) -> Any:
    """Make a pretraining trainer with SGD and no weight decay: only a gradient moves a parameter."""
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    settings = {"steps": 2, "steps_per_epoch": 2, "validation_crops": 6, "optimizer": "sgd", "weight_decay": 0.0}
    plans = read_json(lab.preprocessed / f"{PLANS_NAME}.json") | {"fsseg": {"pretrain": settings}}
    made = make_trainer(
        plans=plans,
        fold=0,
        dataset_json=read_json(lab.preprocessed / "dataset.json"),
        device=torch.device("cpu"),
        folder=tmp_path,
        resume_from=None,
    )
    north = [case for case in made.structures.cases if "North" in case]
    made.do_split = lambda: (sorted(made.structures.cases), north)
    return made


def without(structures: Structures, case: str, name: str) -> Structures:
    """Return structures in which a case does not annotate a structure."""
    old = structures.annotation(case)
    rest = tuple(known for known in old.annotated if known != name)
    new = CaseAnnotation(source=old.source, annotated=rest)
    return structures.model_copy(update={"cases": {**structures.cases, case: new}})


def test_a_structure_that_a_case_does_not_annotate_is_no_foreground(lab: Lab, trainer: Any) -> None:
    from fsseg.nnunet.preprocessed_volume import preprocessed_volume

    folder = Path(str(trainer.preprocessed_dataset_folder))
    for case, annotation in trainer.structures.cases.items():
        volume = preprocessed_volume(case, folder, trainer.structures, trainer.plans_manager)
        assert set(volume.locations) == set(annotation.annotated)  # phantoms show what they annotate
        known = [name in annotation.annotated for name in trainer.structures.names]
        assert (volume.zone_annotated == known).all()
        for name, voxels in volume.locations.items():
            found = np.asarray(volume.labels[0])[tuple(np.asarray(voxels).T)]
            assert set(np.unique(found)) <= set(trainer.structures.integers[name])
    silent = without(trainer.structures, case, annotation.annotated[0])
    volume = preprocessed_volume(case, folder, silent, trainer.plans_manager)
    assert annotation.annotated[0] not in volume.locations  # although its label map shows it
    assert not volume.zone_annotated[:, trainer.structures.names.index(annotation.annotated[0])].any()


def test_validation_dice_is_none_for_what_no_validation_case_annotates(trainer: Any, tmp_path: Path) -> None:
    trainer.run_training()
    dice = losses(tmp_path)[-1]["validation_dice"]
    assert {name for name, value in dice.items() if value is None} == dice.keys() - NORTH
    assert all(0 <= dice[name] <= 1 for name in NORTH)


def test_a_structure_that_no_training_case_shows_is_refused(trainer: Any) -> None:
    north = [case for case in trainer.structures.cases if "North" in case]
    trainer.do_split = lambda: (north, [])
    with pytest.raises(FssegError, match=r"No training case in .* shows (?s:.*)validation_share, --fold all"):
        trainer.on_train_start()


def test_a_step_on_a_case_leaves_the_rows_of_what_it_does_not_annotate(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = [case for case in trainer.structures.cases if "North" in case]
    trainer.do_split = lambda: (north, [])
    monkeypatch.setattr("fsseg.nnunet.pretraining.loaders.require_every_structure", lambda *_: None)
    trainer.on_train_start()
    before = [tensor.clone() for tensor in head_of(trainer.network)]
    trainer.train_step(next(trainer.dataloader_train))
    after = head_of(trainer.network)
    moved = {
        name
        for channel, name in enumerate(trainer.structures.names)
        if not all(torch.equal(old[channel], new[channel]) for old, new in zip(before, after, strict=True))
    }
    assert moved == NORTH


# --- orientation ------------------------------------------------------------------------------------------------


def test_label_maps_are_written_as_the_image_is_stored(lab: Lab, adapted: Path, tmp_path: Path) -> None:
    image = SimpleITK.ReadImage(str(lab.image(3)))
    images = tmp_path / "images"
    images.mkdir()
    orientations = ("LPS", "RAS", "PIR")
    for orientation in orientations:
        stored = SimpleITK.DICOMOrient(image, orientation)
        SimpleITK.WriteImage(stored, str(images / f"{orientation}_0000.nii.gz"), True)
    succeed("predict", "--run", adapted, "--input", images, "--output", tmp_path / "out", "--device", "cpu")
    upright = []
    for orientation in orientations:
        stored = SimpleITK.ReadImage(str(images / f"{orientation}_0000.nii.gz"))
        labels = SimpleITK.ReadImage(str(tmp_path / "out" / f"{orientation}.nii.gz"))
        assert labels.GetSize() == stored.GetSize()
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(labels, geometry)() == pytest.approx(getattr(stored, geometry)(), abs=1e-4)
        upright.append(SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(labels, "LPS")))
    assert upright[0].any()
    assert not np.array_equal(upright[0], upright[0][:, :, ::-1])  # a flip would be seen
    for other in upright[1:]:
        assert np.array_equal(upright[0], other)


def test_a_flipped_case_is_preprocessed_to_the_same_volume(lab: Lab, tmp_path: Path) -> None:
    base, dataset = ModelFolder.read(lab.base), read_raw_dataset(lab.target)
    target: Target = make_target(LabelledDataset.of(dataset), (NOVEL, KNOWN), base.head_rows())
    plain = support_volumes(dataset, target, [lab.case(0)], CasePreprocessor(base, cache=None))[0]
    copy = lab.copy_target(tmp_path / "raw")
    for path in (copy.image(0), copy.label(0)):
        flipped = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RAS")
        path.unlink()
        SimpleITK.WriteImage(flipped, str(path), True)
    stored: RawDataset = read_raw_dataset(copy.target)
    other = support_volumes(stored, target, [lab.case(0)], CasePreprocessor(base, cache=None))[0]
    assert np.array_equal(plain.image, other.image)
    assert np.array_equal(plain.labels, other.labels)
    assert (plain.labels > 0).any()
