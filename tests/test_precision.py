"""In which numbers a network is trained: float32 on a CPU, mixed precision on CUDA, and bfloat16 where it is asked for.

A CPU that has no bfloat16 emulates it, which is slow and gives the same numbers: small tests run anywhere.
"""

from pathlib import Path

import pytest
import torch
from conftest import PLANS_NAME, Lab, fsseg, succeed
from safetensors.torch import load_file

from fsseg.config.base import Precision
from fsseg.config.errors import UsageError
from fsseg.config.json_files import read_json
from fsseg.nnunet.environment import temporary_results_folder
from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel
from fsseg.training.placement import computing_dtype, has_bfloat16, mixed_precision, place
from fsseg.training.seeding import resolve_device
from fsseg.training.step import gradient_scaler
from fsseg.training.torch_file import read_torch_file

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FEATURES = "fsseg.training.placement.has_bfloat16"


@pytest.fixture
def any_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FEATURES, lambda _: True)


@pytest.fixture
def no_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FEATURES, lambda _: False)


@pytest.mark.parametrize(
    ("device", "precision", "has_it", "expected"),
    [
        (CPU, "auto", True, torch.float32),
        (CPU, "auto", False, torch.float32),
        (CPU, "float32", True, torch.float32),
        (CPU, "bfloat16", True, torch.bfloat16),
        (CUDA, "auto", True, torch.bfloat16),
        (CUDA, "auto", False, torch.float16),
        (CUDA, "float32", True, torch.float32),
        (CUDA, "bfloat16", True, torch.bfloat16),
        (torch.device("mps"), "auto", False, torch.float32),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler")  # there is no CUDA here
def test_what_is_computed_where(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, precision: Precision, has_it: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(FEATURES, lambda _: has_it)
    assert computing_dtype(device, precision) is expected
    assert (gradient_scaler(device, precision) is not None) == (expected is torch.float16)


@pytest.mark.skipif(not has_bfloat16(CPU), reason="this CPU has no bfloat16, and a training in it is refused here")
@pytest.mark.parametrize("kernel", [1, 3])
def test_on_a_cpu_convolutions_return_channels_last_whatever_the_image_is(kernel: int) -> None:
    """From one layout to the other every activation is copied, which in bfloat16 takes longer than the convolution."""
    layer = place(torch.nn.Conv3d(2, 3, kernel), CPU)
    with mixed_precision(CPU, "bfloat16"):
        assert layer(torch.ones(1, 2, 4, 4, 4)).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.usefixtures("any_device_has_it")
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_the_context_computes_in_that_precision(precision: Precision) -> None:
    layer = torch.nn.Conv3d(2, 3, 3)
    with mixed_precision(CPU, precision):
        assert layer(torch.ones(1, 2, 4, 4, 4)).dtype is computing_dtype(CPU, precision)


def test_a_cpu_knows_whether_it_has_bfloat16() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        pytest.skip("only Linux lists what a CPU has")
    assert has_bfloat16(CPU) == ("avx512_bf16" in flags.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("no_device_has_it")
@pytest.mark.parametrize("stage", ["adapt", "pretrain"])
def test_a_device_without_bfloat16_refuses_it(lab: Lab, tmp_path: Path, stage: str) -> None:
    run = tmp_path / "run"
    words = {
        "adapt": lab.adapt_words(run, "--set", "recipe.precision=bfloat16"),
        "pretrain": lab.pretrain_words(run, "precision=bfloat16"),
    }
    outcome = fsseg(*words[stage])
    assert outcome.code == 2
    assert "cpu device has no bfloat16" in outcome.err
    assert "allowed here: auto, float32" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("any_device_has_it")
@pytest.mark.parametrize("method", ["lora", "linear_probe"])
def test_an_adaptation_in_bfloat16_stays_near_one_in_float32(lab: Lab, tmp_path: Path, method: str) -> None:
    """Of the weights that are trained, and saved in float32; how near three steps stay depends on the rounding."""
    tensors = {}
    for precision in ("float32", "bfloat16", "auto"):
        run = tmp_path / precision
        options = ("recipe.max_steps=3", "recipe.feature_crops=6", f"recipe.precision={precision}")
        manifest = succeed(*lab.adapt_words(run, "--set", *options, method=method))
        assert manifest["config"]["recipe"]["precision"] == precision
        tensors[precision] = load_file(run / "adapter.safetensors")
    assert all(tensor.dtype is torch.float32 for tensor in tensors["bfloat16"].values())
    assert all(torch.equal(tensors["auto"][name], tensor) for name, tensor in tensors["float32"].items())
    assert any(not torch.equal(tensors["bfloat16"][name], tensor) for name, tensor in tensors["float32"].items())
    for name, tensor in tensors["float32"].items():
        assert (tensors["bfloat16"][name] - tensor).norm() < 0.2 * tensor.norm() + 1e-2, name


@pytest.mark.usefixtures("any_device_has_it")
def test_a_pretraining_in_bfloat16_computes_so_and_is_repeated_to_the_bit(lab: Lab, tmp_path: Path) -> None:
    weights = []
    for run in ("first", "second"):
        succeed(*lab.pretrain_words(tmp_path / run, steps=4), "precision=bfloat16")
        checkpoint = read_torch_file(tmp_path / run / "fold_0" / "checkpoint_final.pth")
        weights.append(checkpoint["network_weights"])
    succeed(*lab.pretrain_words(tmp_path / "float32", steps=4))
    other = read_torch_file(tmp_path / "float32" / "fold_0" / "checkpoint_final.pth")["network_weights"]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())
    assert any(not torch.equal(other[name], tensor) for name, tensor in weights[0].items())


@pytest.mark.usefixtures("any_device_has_it")
def test_a_dry_run_measures_memory_in_the_precision_asked_for(lab: Lab, tmp_path: Path) -> None:
    words = lab.pretrain_words(tmp_path / "run")
    full = succeed(*words, "--dry-run")["memory_mib"]
    assert succeed(*words, "precision=bfloat16", "--dry-run")["memory_mib"] < 0.9 * full


def test_one_of_several_cuda_devices_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]
    assert resolve_device("cuda") == torch.device("cuda")
    with pytest.raises(UsageError, match=r"There is no device cuda:2 here[\s\S]*allowed: cuda:0, cuda:1"):
        resolve_device("cuda:2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UsageError, match="No CUDA device is available here"):
            resolve_device(name)
    with pytest.raises(UsageError, match="Unknown device 'tpu'"):
        resolve_device("tpu")


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler")  # there is no CUDA here
def test_a_pretraining_trains_on_the_device_that_it_is_given(lab: Lab) -> None:
    plans = {**read_json(lab.preprocessed / f"{PLANS_NAME}.json"), "continue_training": False}
    dataset_json = read_json(lab.preprocessed / "dataset.json")
    with temporary_results_folder():
        trainer = nnUNetTrainerPartialLabel(plans, "3d_fullres", 0, dataset_json, torch.device("cuda", 1))
    assert trainer.device == torch.device("cuda", 1)
