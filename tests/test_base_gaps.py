"""Bases that are partly random: an adaptation says so, and loudly where it leaves them so."""

import json
import shutil
from pathlib import Path

import checkpoint_files
import pytest
import torch
from conftest import Lab, fsseg, succeed
from tiny import tiny_network

from fsseg.adaptation.base_gaps import left_random, left_random_notes, trained_random_notes
from fsseg.config.errors import FssegError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import DecoderChoice
from fsseg.methods.registry import create_method
from fsseg.models.parts import parts_of
from fsseg.nnunet.model_folder import ModelFolder

RANDOM = "decoder.stages.0.convs.0.conv.weight"


@pytest.fixture(scope="module")
def encoder_only(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A Swin UNETR of which the file holds the encoder; the rest, convolutions on the skips too, is random."""
    folder = tmp_path_factory.mktemp("base")
    checkpoint_files.swin_ssl(folder / "file.pt")
    succeed("import", folder / "file.pt", "--out", folder / "run")
    return ModelFolder.read(folder / "run")


def adapted_on(base: ModelFolder, method: str, decoder: DecoderChoice) -> AdaptedNetwork:
    return AdaptedNetwork(base.build_network(), create_method(method), decoder)


def others(base: ModelFolder) -> set[str]:
    """Return the tensors outside of the Swin encoder and the heads."""
    network = base.build_network()
    heads = {id(p) for p in parts_of(network).heads.parameters()}
    return {n for n, p in network.named_parameters() if not n.startswith("swinViT") and id(p) not in heads}


def test_an_import_says_which_tensors_are_random(encoder_only: ModelFolder) -> None:
    assert set(encoder_only.random_tensors) == others(encoder_only)


@pytest.mark.parametrize("method", ["linear_probe", "bitfit", "affine", "ssf", "lora", "adaptformer", "compacter"])
def test_random_layers_that_stay_so_are_named(encoder_only: ModelFolder, method: str) -> None:
    adapted = adapted_on(encoder_only, method, "frozen")
    left = set(left_random(encoder_only, adapted))
    assert left == others(encoder_only) - set(adapted.trainable())
    note = "\n".join(left_random_notes(encoder_only, adapted))
    assert note.startswith("RANDOM AND FROZEN: encoder1.layer.conv1.conv.weight, ")
    assert f"and {len(left) - 3} more" in note
    assert "Use full or l2_sp" in note


def test_a_tuned_decoder_leaves_the_skips_random(encoder_only: ModelFolder) -> None:
    adapted = adapted_on(encoder_only, "lora", "tuned")
    left = left_random(encoder_only, adapted)
    assert left
    assert all(name.startswith("encoder") for name in left)
    assert trained_random_notes(encoder_only, adapted)[0].startswith("Random at the start")


@pytest.mark.parametrize("method", ["full", "l2_sp"])
def test_random_layers_that_are_trained_are_a_remark(encoder_only: ModelFolder, method: str) -> None:
    adapted = adapted_on(encoder_only, method, "tuned")
    assert left_random_notes(encoder_only, adapted) == []
    assert "encoder1.layer.conv1.conv.weight" in trained_random_notes(encoder_only, adapted)[0]


def test_statistics_of_frozen_batch_norms_stay_random() -> None:
    network = tiny_network("plain_batch_norm")
    norm = next(name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm3d))
    statistics = f"{norm}.running_mean"
    lora = AdaptedNetwork(network, create_method("lora"), "frozen")
    assert lora.untouched([statistics]) == [statistics]
    full = AdaptedNetwork(tiny_network("plain_batch_norm"), create_method("full"), "tuned")
    assert full.untouched([statistics]) == []


def test_a_network_from_scratch_has_nothing_of_the_base(encoder_only: ModelFolder) -> None:
    adapted = adapted_on(encoder_only, "from_scratch", "tuned")
    assert left_random_notes(encoder_only, adapted) == trained_random_notes(encoder_only, adapted) == []


@pytest.fixture
def partly_random(lab: Lab, tmp_path: Path) -> Path:
    """The base, one tensor of whose decoder is said to be random."""
    base = tmp_path / "base"
    shutil.copytree(lab.base, base)
    file = base / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8")) | {"random_tensors": [RANDOM]}
    file.write_text(json.dumps(content), encoding="utf-8")
    assert RANDOM in ModelFolder.read(base).weights
    return base


def test_adapt_and_nnunet_plans_say_it(lab: Lab, partly_random: Path, tmp_path: Path) -> None:
    said = f"RANDOM AND FROZEN: {RANDOM}."
    words = lab.adapt_words(tmp_path / "run", "--decoder", "frozen", base=partly_random)
    assert any(said in note for note in succeed(*words, "--dry-run")["notes"])
    tuned = lab.adapt_words(tmp_path / "run", "--decoder", "tuned", base=partly_random)
    notes = succeed(*tuned, "--dry-run")["notes"]
    assert any(note.startswith("Random at the start") and RANDOM in note for note in notes)
    assert not any(said in note for note in notes)
    plans = ["nnunet", "plans", "--checkpoint", partly_random, "--dataset", "804", "--method", "bitfit", "--name", "g"]
    outcome = fsseg(*plans)
    assert outcome.code == 0, outcome.err
    assert said in outcome.out + outcome.err


@pytest.mark.parametrize(("decoder", "left"), [("frozen", [RANDOM]), ("tuned", [])])
def test_what_stays_random_goes_on_through_adaptation_merging_and_import(
    lab: Lab, partly_random: Path, tmp_path: Path, decoder: str, left: list[str]
) -> None:
    run, merged, again = (tmp_path / name for name in ("run", "merged", "again"))
    succeed(*lab.adapt_words(run, "--decoder", decoder, base=partly_random))
    succeed("adapter", "merge", run / "adapter.safetensors", "--base", partly_random, "--out", merged)
    succeed("import", run / "fold_0" / "checkpoint_final.pth", "--out", again)
    for folder in (run, merged, again):
        model = ModelFolder.read(folder)
        assert list(model.random_tensors) == left, folder
        assert model.dataset_json["support_cases"]


def test_a_damaged_list_of_names_is_one_message(partly_random: Path) -> None:
    file = partly_random / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8")) | {"random_tensors": 5}
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FssegError, match="random_tensors: Input should be a valid list, got 5"):
        ModelFolder.read(partly_random)
