"""What `fsseg adapt` leaves is a stock nnU-Net model, and the adapter file rebuilds the same network."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from safetensors.torch import load_file, save_file

from fsseg.config.errors import FssegError, UsageError
from fsseg.methods.adapter_file import load_adapter, sealed
from fsseg.models.parts import parts_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.prediction import Predictor
from fsseg.prediction.load_adapted import load_adapted
from fsseg.training.torch_file import read_torch_file

CPU = torch.device("cpu")
LOGIT_TOLERANCE = 1e-4
UNDECIDED = 1e-3  # a voxel whose logit is this small may fall on either side
METHODS = {
    "lora-tuned": ("lora", "tuned"),
    "lora-frozen": ("lora", "frozen"),
    "full": ("full", "tuned"),
    "from_scratch": ("from_scratch", "tuned"),
    "linear_probe": ("linear_probe", "frozen"),
}
_WITHOUT_FSSEG = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fsseg":
            raise ModuleNotFoundError("fsseg is not installed here")
        return None

sys.meta_path.insert(0, Absent())
if __name__ == "__main__":
    try:
        import fsseg
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit("fsseg could be imported, so nothing is shown")
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
    predict_entry_point_modelfolder()
"""


@pytest.fixture(scope="session")
def base(lab: Lab) -> ModelFolder:
    return ModelFolder.read(lab.base)


@pytest.fixture(scope="session", params=METHODS.values(), ids=METHODS)
def run(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapt at rates high enough that the result differs a lot from its base."""
    method, decoder = request.param
    out = tmp_path_factory.mktemp("stock") / f"{method}_{decoder}"
    rates = dict.fromkeys(("whole_network", "scratch", "decoder", "head", "low_rank"), 0.01)
    words = ("--decoder", decoder, "--set", "recipe.max_steps=12", f"recipe.learning_rates={json.dumps(rates)}")
    succeed(*lab.adapt_words(out, *words, "recipe.decoder_learning_rate=0.01", method=method))
    return out


def stock_predictor(run: Path) -> nnUNetPredictor:
    predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(run), (0,), "checkpoint_final.pth")
    return predictor


def unmerged_predictor(run: Path, base: ModelFolder) -> Predictor:
    model = replace(ModelFolder.read(run), mirroring_axes=None)  # as the stock predictor above
    return Predictor(load_adapted(base, run / "adapter.safetensors")[0].network, model, CPU)


def test_stock_predictor_gives_the_logits_of_the_unmerged_network(
    run: Path, base: ModelFolder, lab: Lab, record_property: pytest.FixtureRequest
) -> None:
    ours = unmerged_predictor(run, base)
    image, _ = ours.preprocessor.image([lab.image(3)])
    unmerged = ours.logits(image)
    stock = stock_predictor(run).predict_sliding_window_return_logits(torch.from_numpy(image)).float()
    with torch.inference_mode():
        plain = Predictor(base.build_network(), base, CPU).logits(image)
    difference = float((unmerged - stock).abs().max())
    record_property("largest_logit_difference", difference)
    assert unmerged.shape[0] == 2
    assert float(unmerged.std()) > 0.1
    assert float((unmerged - plain[: len(unmerged)]).abs().max()) > 0.1  # the base would not pass for it
    assert difference <= LOGIT_TOLERANCE


def test_the_run_names_stock_classes_only(run: Path) -> None:
    checkpoint = read_torch_file(run / "fold_0" / "checkpoint_final.pth")
    plans = (run / "plans.json").read_text(encoding="utf-8")
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert "fsseg" not in json.loads(plans)
    assert "SimpleITKIOWithReorient" in plans
    assert not any("parametrizations" in key for key in checkpoint["network_weights"])


@pytest.fixture(scope="session")
def decided_run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA with a tuned decoder, trained long enough to show both structures."""
    out = tmp_path_factory.mktemp("stock") / "decided"
    rates = ("recipe.learning_rates={low_rank: 0.02}", "recipe.decoder_learning_rate=0.02")
    more = ("recipe.head_learning_rate=0.02", "recipe.foreground_probability=1.0", "recipe.max_steps=120")
    succeed(*lab.adapt_words(out, "--shots", 3, "--decoder", "tuned", "--set", *rates, *more))
    return out


@pytest.fixture
def image_folder(lab: Lab, tmp_path: Path) -> Path:
    """Two cases, one of them stored in another orientation."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "plain_0000.nii.gz").symlink_to(lab.image(1))
    flipped = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(lab.image(3))), "RAS")
    SimpleITK.WriteImage(flipped, str(folder / "flipped_0000.nii.gz"), True)
    return folder


def undecided_voxels(predictor: Predictor, image: Path) -> np.ndarray:
    """Return where a logit, resampled to the grid of the image as for its label map, is nearly zero; stored RAS."""
    data, properties = predictor.preprocessor.image([image])
    configuration = predictor.model.configuration_manager()
    shape = properties["shape_after_cropping_and_before_resampling"]
    logits = configuration.resampling_fn_probabilities(
        predictor.logits(data), shape, configuration.spacing, properties["spacing"]
    )
    near = (np.abs(np.asarray(logits)) < UNDECIDED).any(axis=0)
    whole = np.zeros(properties["shape_before_cropping"], dtype=bool)
    whole[tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])] = near
    return whole


def read(path: Path) -> SimpleITK.Image:
    return SimpleITK.ReadImage(str(path))


def ras_array(image: SimpleITK.Image) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "RAS"))


def predict_without_fsseg(run: Path, images: Path, out: Path) -> None:
    """Run the entry point of nnUNetv2_predict_from_modelfolder where fsseg cannot be imported."""
    script = out.with_name("without_fsseg.py")
    script.write_text(_WITHOUT_FSSEG, encoding="utf-8")
    words = ["-i", images, "-o", out, "-m", run, "-f", "0"]
    # Without --disable_tta: that a model with left and right must not be mirrored has to be in the checkpoint itself.
    words += ["-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=out.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.full
def test_stock_command_writes_the_label_maps_of_fsseg_predict(
    lab: Lab,
    decided_run: Path,
    base: ModelFolder,
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    record_property: pytest.FixtureRequest,
) -> None:
    predict_without_fsseg(decided_run, image_folder, tmp_path / "stock")
    succeed("predict", "--run", decided_run, "--input", image_folder, "--output", tmp_path / "ours", "--device", "cpu")
    predictor = unmerged_predictor(decided_run, base)
    shown: set[int] = set()
    for case in ("plain", "flipped"):
        stock, ours = read(tmp_path / "stock" / f"{case}.nii.gz"), read(tmp_path / "ours" / f"{case}.nii.gz")
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(stock, geometry)() == getattr(ours, geometry)()
        differing = ras_array(stock) != ras_array(ours)
        undecided = undecided_voxels(predictor, image_folder / f"{case}_0000.nii.gz")
        record_property(f"differing_voxels_{case}", int(differing.sum()))
        with capsys.disabled():
            print(f"\n  {case}: {differing.sum()} of {differing.size} voxels differ", end="")  # noqa: T201
        assert undecided.mean() < 0.01
        assert not (differing & ~undecided).any()
        shown |= set(np.unique(ras_array(ours)).tolist())
    integers = json.loads((lab.target / "dataset.json").read_text(encoding="utf-8"))["labels"]
    assert shown == {0, integers[KNOWN][0], integers[NOVEL][0]}  # those of the dataset


def test_a_rebuilt_network_holds_the_merged_weights_of_the_run(adapted: Path, base: ModelFolder) -> None:
    rebuilt = load_adapted(base, adapted / "adapter.safetensors")[0].merged_state_dict()
    written = ModelFolder.read(adapted).weights
    assert set(rebuilt) == set(written)
    unused_heads = {name for name in written if "seg_layers.0" in name}
    assert unused_heads
    for name in set(written) - unused_heads:
        assert torch.equal(rebuilt[name], written[name]), name


def test_rebuilding_leaves_the_random_state_alone(adapted: Path, base: ModelFolder) -> None:
    before = torch.get_rng_state()
    network, _ = load_adapted(base, adapted / "adapter.safetensors")
    base.build_network()  # a plain build draws; what load_adapted adds to it does not depend on the caller
    torch.manual_seed(123)
    again, _ = load_adapted(base, adapted / "adapter.safetensors")
    torch.set_rng_state(before)
    first, second = network.merged_state_dict(), again.merged_state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_adapter_of_another_base_is_refused_naming_both(adapted: Path, base: ModelFolder) -> None:
    other = ModelFolder.read(adapted)
    assert other.sha256 != base.sha256
    with pytest.raises(FssegError, match="another base") as caught:
        load_adapted(other, adapted / "adapter.safetensors")
    assert base.sha256 in str(caught.value)
    assert other.sha256 in str(caught.value)


@pytest.fixture
def rewritten(adapted: Path, tmp_path: Path) -> Iterator:
    """Return a function that writes the adapter again with another header or other tensors."""

    def write(header: dict | None = None, state: dict | None = None) -> Path:
        file = adapted / "adapter.safetensors"
        info = load_adapter(file)[1].model_dump(mode="json") if header is None else header
        path = tmp_path / "changed.safetensors"
        tensors = load_file(file) if state is None else state
        save_file(tensors, path, metadata=sealed(info, tensors))
        return path

    return write


def test_a_truncated_adapter_is_refused(adapted: Path, base: ModelFolder, tmp_path: Path) -> None:
    content = (adapted / "adapter.safetensors").read_bytes()
    for size in (0, 4, 200, len(content) // 2, len(content) - 1):
        path = tmp_path / f"{size}.safetensors"
        path.write_bytes(content[:size])
        with pytest.raises(FssegError, match="is damaged, or is no adapter file"):
            load_adapted(base, path)


def test_a_missing_adapter_is_refused(base: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Adapter file not found: .*nowhere\.safetensors"):
        load_adapted(base, tmp_path / "nowhere.safetensors")


def test_safetensors_without_our_header_are_refused(base: ModelFolder, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(FssegError, match="no adapter file"):
        load_adapted(base, tmp_path / "other.safetensors")


@pytest.mark.parametrize("header", [[], "text", 3, None, {}, {"method": "lora", "options": {}}])
def test_a_header_that_is_not_ours_is_refused(base: ModelFolder, tmp_path: Path, header: object) -> None:
    path = tmp_path / "adapter.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={"fsseg": json.dumps(header)})
    with pytest.raises(FssegError, match=r"adapter\.safetensors"):
        load_adapted(base, path)


def test_an_adapter_of_a_newer_format_is_refused(base: ModelFolder, rewritten, adapted: Path) -> None:
    header = load_adapter(adapted / "adapter.safetensors")[1].model_dump(mode="json")
    with pytest.raises(UsageError, match="Install a newer fsseg"):
        load_adapted(base, rewritten({**header, "format_version": 99}))


def test_an_adapter_of_an_unknown_method_is_refused(base: ModelFolder, rewritten, adapted: Path) -> None:
    header = load_adapter(adapted / "adapter.safetensors")[1].model_dump(mode="json")
    with pytest.raises(FssegError, match=r"changed\.safetensors cannot be applied. Unknown method 'lorra'") as refused:
        load_adapted(base, rewritten({**header, "method": "lorra"}))
    assert refused.value.exit_code == 1


def test_an_adapter_with_other_tensors_than_its_method_has_is_refused(
    base: ModelFolder, rewritten, adapted: Path
) -> None:
    state, _ = load_adapter(adapted / "adapter.safetensors")
    with pytest.raises(FssegError, match=r"changed\.safetensors cannot be applied.*\n.*unexpected another"):
        load_adapted(base, rewritten(state={**state, "another": torch.zeros(2)}))


def test_logits_beyond_half_precision_are_said_to_be_of_a_diverged_training(
    base: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = base.build_network()
    with torch.no_grad():
        parts_of(network).head.weight.mul_(1e8)
    image = np.random.default_rng(0).normal(size=(1, 24, 24, 24)).astype(np.float32)
    with pytest.raises(FssegError, match=r"has\s+diverged"):
        Predictor(network, base, CPU).logits(image)


def test_an_adapter_that_starts_from_a_row_the_base_lacks_is_refused(
    base: ModelFolder, rewritten, adapted: Path
) -> None:
    header = load_adapter(adapted / "adapter.safetensors")[1].model_dump(mode="json")
    rows = f"0 to {len(base.structures.names) - 1}"
    with pytest.raises(FssegError, match=rf"starts {KNOWN} from row 99, which the head of .*\n  its rows: {rows}"):
        load_adapted(base, rewritten({**header, "structures": {**header["structures"], KNOWN: 99}}))


def test_an_adapter_with_a_tensor_missing_or_misshapen_is_refused(base: ModelFolder, rewritten, adapted: Path) -> None:
    state = load_file(adapted / "adapter.safetensors")
    name = next(iter(state))
    with pytest.raises(FssegError, match=f"missing {name}"):
        load_adapted(base, rewritten(state={key: value for key, value in state.items() if key != name}))
    with pytest.raises(FssegError, match=name):
        load_adapted(base, rewritten(state={**state, name: torch.zeros(1, 2, 3)}))


def test_predictions_of_a_run_and_of_its_base_differ(lab: Lab, decided_run: Path, tmp_path: Path) -> None:
    words = ("--input", lab.target / "imagesTr", "--cases", lab.case(3), "--device", "cpu")
    for name, run in (("base", lab.base), ("run", decided_run)):
        outcome = fsseg("predict", "--run", run, *words, "--output", tmp_path / name)
        assert outcome.code == 0, outcome.err
    maps = [ras_array(read(tmp_path / name / f"{lab.case(3)}.nii.gz")) for name in ("base", "run")]
    assert (maps[0] != maps[1]).mean() > 0.01
