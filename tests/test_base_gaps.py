"""Bases that are partly random: an adaptation says so, and loudly where it leaves them so."""

import json
import shutil
from pathlib import Path

import checkpoint_files
import pytest
from conftest import Lab, fsseg, succeed

from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import DecoderChoice
from fsseg.methods.registry import create_method
from fsseg.nnunet.model_folder import ModelFolder, read_model_folder
from fsseg.stages.base_gaps import random_notes


@pytest.fixture(scope="module")
def encoder_only(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A Swin UNETR of which the file holds the encoder; the rest, convolutions on the skips too, is random."""
    folder = tmp_path_factory.mktemp("base")
    checkpoint_files.swin_ssl(folder / "file.pt")
    succeed("import", folder / "file.pt", "--out", folder / "run")
    return read_model_folder(folder / "run")


def notes(base: ModelFolder, method: str, decoder: DecoderChoice) -> str:
    return "\n".join(random_notes(base, AdaptedNetwork(base.build_network(), create_method(method), decoder)))


@pytest.mark.parametrize(
    ("method", "decoder", "first"),
    [
        ("linear_probe", "frozen", "encoder1.layer.conv1.conv.weight"),
        ("bitfit", "frozen", "encoder1.layer.conv1.conv.weight"),
        ("lora", "frozen", "encoder1.layer.conv1.conv.weight"),
        ("lora", "tuned", "encoder1.layer.conv1.conv.weight"),  # the convolutions on the skips are no decoder
    ],
)
def test_random_layers_that_stay_so_are_named(
    encoder_only: ModelFolder, method: str, decoder: DecoderChoice, first: str
) -> None:
    note = notes(encoder_only, method, decoder)
    assert note.startswith(f"RANDOM AND FROZEN: {first}, ")
    assert "swinViT" not in note
    assert "Use full or l2_sp" in note


@pytest.mark.parametrize("method", ["full", "l2_sp"])
def test_random_layers_that_are_trained_are_a_remark(encoder_only: ModelFolder, method: str) -> None:
    assert notes(encoder_only, method, "tuned").startswith("Random at the start, because the import of the base")


def test_a_network_from_scratch_has_nothing_of_the_base(encoder_only: ModelFolder) -> None:
    assert notes(encoder_only, "from_scratch", "tuned") == ""


def test_adapt_and_nnunet_plans_say_it(lab: Lab, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(lab.base, base)
    name = "decoder.stages.0.convs.0.conv.weight"
    assert name in read_model_folder(base).weights
    (base / "transfer.json").write_text(json.dumps({"missing": [name], "reshaped": {}}), encoding="utf-8")
    said = f"RANDOM AND FROZEN: {name}."
    words = lab.adapt_words(tmp_path / "run", "--decoder", "frozen", base=base)
    assert any(said in note for note in succeed(*words, "--dry-run")["notes"])
    tuned = lab.adapt_words(tmp_path / "run", "--decoder", "tuned", base=base)
    assert any(note.startswith("Random at the start") for note in succeed(*tuned, "--dry-run")["notes"])
    plans = ["nnunet", "plans", "--checkpoint", base, "--dataset", "804", "--method", "bitfit", "--name", "gaps"]
    outcome = fsseg(*plans)
    assert outcome.code == 0, outcome.err
    assert said in outcome.out + outcome.err
