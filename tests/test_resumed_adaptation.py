"""An adaptation that was stopped is resumed to the same result."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Lab, fsseg, succeed
from safetensors.torch import load_file
from tiers import rest_full

from fsseg.config.staging import staging_of
from fsseg.methods.registry import method_class, method_names
from fsseg.nnunet.checkpoint_file import WEIGHTS_HASH_KEY
from fsseg.training.fit_checkpoint import FitCheckpoint
from fsseg.training.torch_file import read_torch_file

STEPS = 6
TRAINED = [name for name in method_names() if ":" not in name and not method_class(name).training_free]
AT = 3  # steps that were taken when the run was stopped


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a command and stops it after some steps, the state being written after every one."""

    def stop(words: list[object]) -> None:
        from fsseg.training import fit

        step, taken = fit.optimisation_step, []

        def counted(*arguments: Any, **options: Any) -> Any:
            if len(taken) == AT:
                raise KeyboardInterrupt
            taken.append(None)
            return step(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(fit, "optimisation_step", counted)
            patch.setattr(FitCheckpoint, "__init__", eager)
            outcome = fsseg(*words)
        assert outcome.code == 1
        assert "The same command resumes the training" in outcome.err

    original = FitCheckpoint.__init__

    def eager(self: FitCheckpoint, file: Path, fingerprint: str, *, minutes: float = 0.0) -> None:
        original(self, file, fingerprint, minutes=0.0)

    return stop


def words_of(lab: Lab, out: Path, method: str, *more: str) -> list[object]:
    if method == "conv_adapter" or method_class(method).family in ("whole_network", "scratch", "decoder"):
        options: tuple[str, ...] = ()
    else:
        options = ("rank=2",) if "rank" in method_class(method).Options.model_fields else ()
    if method == "adalora":
        options += ("target_rank=1",)
    return lab.adapt_words(out, "--set", f"recipe.max_steps={STEPS}", *options, *more, method=method)


@pytest.mark.parametrize("method", rest_full(TRAINED, "lora", "adalora", "linear_probe"))
def test_a_stopped_adaptation_goes_on_to_the_same_result(lab: Lab, tmp_path: Path, stopped: Any, method: str) -> None:
    succeed(*words_of(lab, tmp_path / "whole", method))
    words = words_of(lab, tmp_path / "run", method)
    stopped(words)
    assert [path.name for path in staging_of(tmp_path / "run").iterdir()] == ["training.pt"]
    succeed(*words)
    assert (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8") == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text(encoding="utf-8")
    ours, theirs = (load_file(tmp_path / run / "adapter.safetensors") for run in ("run", "whole"))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert not (tmp_path / "run" / "training.pt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]


def test_dropout_of_the_base_is_the_same_after_a_stop_and_beside_an_estimate(
    lab: Lab, tmp_path: Path, stopped: Any
) -> None:
    base = tmp_path / "base"
    shutil.copytree(lab.base, base)
    plans = json.loads((base / "plans.json").read_text(encoding="utf-8"))
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs |= {"dropout_op": "torch.nn.modules.dropout.Dropout3d", "dropout_op_kwargs": {"p": 0.3}}
    (base / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    file = base / "fold_0" / "checkpoint_final.pth"
    checkpoint = read_torch_file(file)
    del checkpoint[WEIGHTS_HASH_KEY]
    weights = checkpoint["network_weights"]  # norms come behind the dropout now
    checkpoint["network_weights"] = {key.replace("all_modules.1.", "all_modules.2."): weights[key] for key in weights}
    torch.save(checkpoint, file)

    def words(run: str, *more: str) -> list[object]:
        options = (f"recipe.max_steps={STEPS}",)
        return lab.adapt_words(tmp_path / run, "--checkpoint", base, "--set", *options, *more, method="full")

    succeed(*words("whole"))
    stopped(words("run"))
    succeed(*words("run"))
    succeed(*words("estimated", "--estimate", "loo"))
    losses = {run: (tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "run", "estimated")}
    assert losses["run"] == losses["whole"] == losses["estimated"]


def test_only_the_steps_that_are_left_are_taken(
    lab: Lab, tmp_path: Path, stopped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsseg.training import fit

    words = words_of(lab, tmp_path / "run", "bitfit")
    stopped(words)
    step, taken = fit.optimisation_step, []
    monkeypatch.setattr(fit, "optimisation_step", lambda *a, **k: taken.append(None) or step(*a, **k))
    assert succeed(*words)["steps"] == STEPS
    assert len(taken) == STEPS - AT


@pytest.mark.parametrize("change", [("--seed", "1"), ("--set", "recipe.max_steps=6", "recipe.batch_size=1")])
def test_the_state_of_another_command_is_not_used(
    lab: Lab, tmp_path: Path, stopped: Any, change: tuple[str, ...]
) -> None:
    stopped(words_of(lab, tmp_path / "run", "bitfit"))
    base = lab.adapt_words(tmp_path / "run", *change, method="bitfit")
    fresh = lab.adapt_words(tmp_path / "fresh", *change, method="bitfit")
    for words in (base, fresh):
        succeed(*words) if "--set" in change else succeed(*words, "--device", "cpu")
    assert (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8") == (
        tmp_path / "fresh" / "metrics.jsonl"
    ).read_text(encoding="utf-8")


def test_a_damaged_state_is_named(lab: Lab, tmp_path: Path, stopped: Any) -> None:
    words = words_of(lab, tmp_path / "run", "bitfit")
    stopped(words)
    (staging_of(tmp_path / "run") / "training.pt").write_bytes(b"half")
    outcome = fsseg(*words)
    assert outcome.code == 1
    assert "training.pt is no checkpoint" in outcome.err
    assert f"Delete {staging_of(tmp_path / 'run') / 'training.pt'} to start again" in outcome.err
    shutil.rmtree(staging_of(tmp_path / "run"))
    assert json.loads(fsseg(*words, "--json").out)["steps"] == STEPS


def test_a_corrected_label_starts_anew(lab: Lab, tmp_path: Path, stopped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import SimpleITK

    copy = lab.copy_target(tmp_path / "site" / "raw")
    (tmp_path / "site" / "preprocessed").mkdir()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "site" / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "site" / "preprocessed"))
    words = words_of(copy, tmp_path / "run", "bitfit")
    words += ["--cases", copy.case(0), copy.case(1)]
    del words[words.index("--shots") : words.index("--shots") + 2]
    stopped(words)
    label = SimpleITK.ReadImage(str(copy.label(0)))
    array = SimpleITK.GetArrayFromImage(label)
    array[tuple(axis[:3] for axis in array.nonzero())] = 0
    corrected = SimpleITK.GetImageFromArray(array)
    corrected.CopyInformation(label)
    SimpleITK.WriteImage(corrected, str(copy.label(0)))
    fresh = [tmp_path / "fresh" if word == tmp_path / "run" else word for word in words]
    succeed(*words)
    succeed(*fresh)
    ours, theirs = (load_file(tmp_path / run / "adapter.safetensors") for run in ("run", "fresh"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
