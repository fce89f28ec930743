"""A file that fills only a part of a network must not pass for a pretrained one."""

import json
from pathlib import Path
from typing import Any

import checkpoint_files
import pytest
import torch
from checkpoint_files import WRITERS, nnunet_file
from conftest import Outcome, fsseg, succeed, tiny_plans

SWIN_SKIPS = ("encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10.")
SWIN_DECODER = ("decoder5.", "decoder4.", "decoder3.", "decoder2.")
UNET_DECODER = ("decoder.stages.", "decoder.transpconvs.")
# What is taken out of a file -> what the refusal says of it.
LARGE_HOLES: list[tuple[str, tuple[str, ...], str]] = [
    ("fseft", SWIN_SKIPS + SWIN_DECODER, "0.0% of the other parts"),
    ("suprem_segresnet", ("up_layers.",), "of the decoder"),
    ("multitalent_v1", ("conv_blocks_localization.",), "of the decoder"),
    ("suprem_swin", SWIN_SKIPS, "100.0% of the decoder, "),
    ("suprem_swin", SWIN_DECODER, "100.0% of the other parts, "),
    ("swin_btcv", SWIN_DECODER, "of the decoder"),
    ("suprem_unet", ("up_tr256.",), "of the decoder"),
    ("models_genesis", ("up_tr256.",), "of the decoder"),
    ("multitalent_v2", UNET_DECODER, "0.0% of the decoder"),
    ("nnunet_v1", ("conv_blocks_localization.",), "of the decoder"),
]
# Of a network with a head every tensor is needed.
SMALL_HOLES = {
    "fseft": ("decoder1.conv_block.conv2.",),
    "suprem_segresnet": ("conv_final.0.bias",),
    "multitalent_v1": ("conv_blocks_localization.4.1.blocks.0.instnorm.bias",),
    "nnunet_v2": UNET_DECODER[1:],
}


def with_hole(file: Path, family: str, beginnings: tuple[str, ...]) -> Path:
    """Write a file of a family without the tensors whose bare names start so."""
    nnunet_file(file, tiny_plans()) if family == "nnunet_v2" else WRITERS[family](file)
    content = torch.load(file, weights_only=False)
    wrapper = next((key for key in ("net", "state_dict", "network_weights") if key in content), None)
    weights = content[wrapper] if wrapper else content
    gone = [name for name in weights if name.replace("module.", "").replace("backbone.", "").startswith(beginnings)]
    assert gone
    for name in gone:
        del weights[name]
    torch.save(content, file)
    return file


def refused(file: Path, *options: object) -> str:
    """Import; return what the refusal says, with nothing written."""
    out = file.parent / "refused"
    outcome = fsseg("import", file, "--out", out, *options)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert not out.exists()
    return outcome.err


@pytest.mark.parametrize(("family", "beginnings", "words"), LARGE_HOLES)
def test_every_part_that_a_family_fills_counts(
    tmp_path: Path, family: str, beginnings: tuple[str, ...], words: str
) -> None:
    message = refused(with_hole(tmp_path / "file.model", family, beginnings))
    assert "100.0% of the encoder come from it" in message
    assert words in message
    assert "missing: " in message
    assert "--allow-partial" in message


@pytest.mark.parametrize(("family", "beginnings"), SMALL_HOLES.items())
def test_a_head_needs_the_whole_network(tmp_path: Path, family: str, beginnings: tuple[str, ...]) -> None:
    message = refused(with_hole(tmp_path / "file.model", family, beginnings))
    assert "needed: every tensor, because the structures of its head count as known" in message
    assert "missing: decoder" in message or "missing: conv_final.0.bias" in message


def test_without_a_head_a_tenth_of_a_part_may_be_missing(tmp_path: Path) -> None:
    file = with_hole(tmp_path / "file.pth", "suprem_unet", ("up_tr64.ops.1.bn1.bias",))
    assert succeed("import", file, "--out", tmp_path / "run")["transfer"]["missing"] == 1


def test_what_is_random_is_said_where_it_is_allowed(tmp_path: Path) -> None:
    file = with_hole(tmp_path / "file.pth", "fseft", SWIN_SKIPS + SWIN_DECODER)
    out = tmp_path / "run"
    outcome = fsseg("import", file, "--out", out, "--allow-partial")
    assert outcome.code == 0, outcome.err
    note = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["notes"][0]
    assert note in outcome.out
    for words in ("PARTLY RANDOM", "0.0% of the other parts", "missing: encoder1.layer", "count as known", "noise"):
        assert words in note


def test_a_whole_file_says_nothing_of_it(tmp_path: Path) -> None:
    checkpoint_files.fseft(tmp_path / "file.pth")
    result = succeed("import", tmp_path / "file.pth", "--out", tmp_path / "run", "--allow-partial")
    assert not any("RANDOM" in note for note in result["notes"])


@pytest.mark.parametrize("convolutions", [1, 2])
def test_layers_that_the_network_lacks(tmp_path: Path, convolutions: int) -> None:
    """Every tensor of a network with fewer layers is in the file, and it computes something else with them."""
    file = nnunet_file(tmp_path / "file.pth", tiny_plans())
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps(with_convolutions(convolutions)), encoding="utf-8")
    if convolutions == 2:  # as in the file
        succeed("import", file, "--plans", plans, "--out", tmp_path / "run")
        return
    message = refused(file, "--plans", plans)
    assert "100.0% of the encoder come from it" in message
    assert "layers that the network lacks: encoder.stages.0.0.convs.1.conv.weight" in message
    outcome: Outcome = fsseg("import", file, "--plans", plans, "--out", tmp_path / "run", "--allow-partial")
    assert outcome.code == 0, outcome.err
    assert "LAYERS LEFT OUT" in outcome.out


def with_convolutions(number: int) -> dict[str, Any]:
    plans = tiny_plans()
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["n_conv_per_stage"] = [number] * 3
    return plans
