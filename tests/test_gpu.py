"""What only a CUDA device can show: mixed precision and its gradient scaler through whole commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import KNOWN, NOVEL, Lab, succeed
from method_cases import FITTING_OPTIONS
from safetensors.torch import load_file
from tiny import image_for

from fsseg.methods.registry import create_method, method_class, method_names
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.load_adapted import load_adapted
from fsseg.training.torch_file import read_torch_file

pytestmark = pytest.mark.gpu

METHODS = [name for name in method_names() if ":" not in name]
WITH_STEP_HOOKS = ("full", "l2_sp", "adalora", "arena")  # a penalty, or something around the step


def adapt(lab: Lab, out: Path, method: str, *settings: str) -> Path:
    """Adapt on the GPU for a few steps; return the run."""
    fitting = [f"{name}={value}" for name, value in FITTING_OPTIONS.get(method, {}).items()]
    words = ("--set", "recipe.max_steps=6", "recipe.feature_crops=4", *fitting, *settings)
    succeed(*lab.adapt_words(out, "--structure", NOVEL, KNOWN, "--device", "cuda", *words, method=method))
    return out


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_in_mixed_precision_and_merges_in_float32(lab: Lab, tmp_path: Path, method: str) -> None:
    run = adapt(lab, tmp_path / "run", method)
    tensors = load_file(run / "adapter.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    assert not any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors.values())
    if create_method(method, FITTING_OPTIONS.get(method)).not_merged_because:
        return
    adapted, _ = load_adapted(ModelFolder.read(lab.base), run / "adapter.safetensors")
    merged = ModelFolder.read(run).build_network().eval()
    image = image_for(merged)
    with torch.no_grad():
        torch.testing.assert_close(merged(image), adapted.network.eval()(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", WITH_STEP_HOOKS)
def test_a_method_trains_in_float16_with_a_gradient_scaler(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("fsseg.training.placement.has_bfloat16", lambda _: False)
    run = adapt(lab, tmp_path / "run", method)
    assert np.isfinite(losses(run)).all()
    assert all(t.isfinite().all() for t in load_file(run / "adapter.safetensors").values() if t.is_floating_point())


@pytest.mark.parametrize("method", ["lora", "linear_probe"])
def test_float32_on_a_gpu_is_near_float32_on_a_cpu(lab: Lab, tmp_path: Path, method: str) -> None:
    run = adapt(lab, tmp_path / "gpu", method, "recipe.precision=float32")
    words = ("--structure", NOVEL, KNOWN, "--set", "recipe.max_steps=6", "recipe.feature_crops=4")
    succeed(*lab.adapt_words(tmp_path / "cpu", *words, method=method))
    np.testing.assert_allclose(losses(run), losses(tmp_path / "cpu"), rtol=2e-2)


@pytest.mark.parametrize("method", [name for name in METHODS if not method_class(name).reads_features_only])
def test_activation_checkpointing_changes_no_loss(lab: Lab, tmp_path: Path, method: str) -> None:
    plain = adapt(lab, tmp_path / "plain", method, "recipe.precision=float32")
    saved = adapt(lab, tmp_path / "saved", method, "recipe.precision=float32", "recipe.checkpoint_activations=true")
    np.testing.assert_allclose(losses(saved), losses(plain), rtol=2e-2)


def test_a_pretraining_with_workers_predicts_alike_on_both_devices(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeed(*lab.pretrain_words(run, "--device", "cuda", steps=20))
    weights = read_torch_file(run / "fold_0" / "checkpoint_final.pth")["network_weights"]
    assert not any(name.startswith("_orig_mod.") for name in weights), "nnU-Net compiles networks on CUDA"
    maps = []
    for device in ("cuda", "cpu"):
        words = ("--input", lab.target / "imagesTr", "--cases", lab.case(0), "--output", tmp_path / device)
        succeed("predict", "--run", run, *words, "--device", device)
        maps.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / device / f"{lab.case(0)}.nii.gz")))
    assert (maps[0] == maps[1]).mean() > 0.99
