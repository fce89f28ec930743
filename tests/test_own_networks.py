"""Networks of somebody else's with names of published ones: told from them, and imported with their own head."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_files
import pytest
import torch
from conftest import fsseg, succeed
from monai.networks import nets
from tiers import rest_full
from torch import nn

from fsseg.checkpoints.architectures import own_seg_resnet
from fsseg.checkpoints.container import open_checkpoint
from fsseg.checkpoints.transfer import transfer
from fsseg.config.errors import FssegError
from fsseg.models.basic_unet import BasicUNet
from fsseg.nnunet.model_folder import ModelFolder

SAID = ("--spacing", 2, 1, 1, "--hu", -160, 240, "--orientation", "SAR")
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], list[str]]] = {
    "monai_segresnet": (
        lambda rows: nets.SegResNet(init_filters=8, out_channels=rows, blocks_down=(1, 2, 1), blocks_up=(2, 1)),
        [],
    ),
    "monai_swinunetr": (
        lambda rows: nets.SwinUNETR(in_channels=1, out_channels=rows, feature_size=12, depths=(2, 1, 1, 1)),
        ["--patch-merging", "merging"],
    ),
    "monai_unet": (lambda rows: nets.BasicUNet(out_channels=rows, features=(4, 4, 8, 8, 16, 4)), []),
}


def saved(file: Path, family: str, rows: int) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[family][0](rows).eval()
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, file)
    return network


def refusal(file: Path, *words: object) -> str:
    outcome = fsseg("import", file, "--out", file.parent / "run", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert not (file.parent / "run").exists()
    return outcome.err


@pytest.mark.parametrize("family", rest_full(NETWORKS, "monai_segresnet", "monai_unet"))
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_an_own_network_is_imported_with_its_own_head(tmp_path: Path, family: str, activation: str) -> None:
    labels = ["liver", "spleen"] if activation == "sigmoid" else ["background", "liver", "spleen"]
    network = saved(tmp_path / "mine.pt", family, len(labels))
    words = ("--family", family, "--labels", *labels, "--activation", activation, *SAID, *NETWORKS[family][1])
    result = succeed("import", tmp_path / "mine.pt", "--out", tmp_path / "run", *words)
    assert (result["family"], result["structures"], result["activation"]) == (family, ["liver", "spleen"], activation)
    assert result["expects"]["axes"] == "zyx"
    assert result["expects"]["spacing_mm"] == [2, 1, 1]
    assert result["expects"]["intensities"][0]["window_hu"] == [-160, 240]
    model = ModelFolder.read(tmp_path / "run")
    image = torch.randn(1, 1, 64, 64, 32)
    with torch.no_grad():
        assert torch.equal(model.build_network().eval()(image), network(image))


def test_the_axes_of_the_network_are_those_of_its_images(tmp_path: Path) -> None:
    saved(tmp_path / "mine.pt", "monai_unet", 1)
    words = ("--family", "monai_unet", "--labels", "liver", "--activation", "sigmoid", *SAID[:-1], "ARS")
    plans = imported_plans(tmp_path, *words)
    assert plans["transpose_forward"] == [1, 2, 0]  # of z, y, x: y, x, z
    assert plans["transpose_backward"] == [2, 0, 1]


def imported_plans(folder: Path, *words: object) -> dict[str, Any]:
    succeed("import", folder / "mine.pt", "--out", folder / "run", *words)
    return ModelFolder.read(folder / "run").plans


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    saved(tmp_path / "mine.pt", "monai_swinunetr", 2)
    text = refusal(tmp_path / "mine.pt", "--family", "monai_swinunetr")
    for option in ("--labels", "--activation", "--spacing", "--hu", "--orientation", "--patch-merging", "--plans"):
        assert option in text


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "too_few_labels": (("--labels", "liver"), "The head has 2 rows, which with a sigmoid are 2 structures; --labels"),
    "twice": (("--labels", "liver", "liver"), "Name each structure once"),
    "softmax": (("--activation", "softmax"), "background and 1 structures; --labels names 2: liver, spleen"),
    "orientation": (("--orientation", "LPS"), "got --orientation LPS"),
    "window": (("--hu", 240, -160), "--hu takes the lower end of the window first"),
    "spacing": (("--spacing", 1, 0, 1), "spacing"),
    "stem": (("--stem", "1"), "--stem is for files with several stems"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "mine.pt", "monai_unet", 2)
    words = ("--family", "monai_unet", "--labels", "liver", "spleen", "--activation", "sigmoid", *SAID)
    more, message = WRONG[name]
    assert message in refusal(tmp_path / "mine.pt", *words, *more)


def test_a_unet_without_rows_in_its_head_is_refused(tmp_path: Path) -> None:
    network = nets.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    assert "only BasicUNet can be imported" in refusal(tmp_path / "mine.pt", "--family", "monai_unet")


def test_a_layer_of_an_absurd_number_is_damage(tmp_path: Path) -> None:
    weights = {**nets.SegResNet(out_channels=1).state_dict(), "down_layers.999999999.0.conv.weight": torch.zeros(2)}
    with pytest.raises(FssegError, match="numbers its layers up to 999999999"):
        own_seg_resnet(weights)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("a" * 10_000, torch.zeros(2), "is no name of a tensor"),
        ("red \x1b[31m", torch.zeros(2), "is no name of a tensor"),
        ("heads.0.bias", torch.ones(1, dtype=torch.bool), "holds torch.bool"),
        ("heads.0.bias", torch.ones(1, dtype=torch.complex64), "holds torch.complex64"),
    ],
)
def test_names_and_numbers_that_no_network_has_are_damage(
    tmp_path: Path, name: str, tensor: torch.Tensor, message: str
) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2), name: tensor}}, tmp_path / "file.pt")
    with pytest.raises(FssegError, match=message) as refusal:
        transfer(BasicUNet(1, 1, features=[2] * 6), open_checkpoint(tmp_path / "file.pt").weights, with_head=True)
    assert len(str(refusal.value)) < 300


# Told from published files


@pytest.mark.parametrize(
    ("network", "differences"),
    [
        (
            lambda: nets.SegResNet(init_filters=8, out_channels=5),
            ["8 filters in its first convolution, not 16", "5 rows in its head, not 32", "--family monai_segresnet"],
        ),
        (
            lambda: nets.SegResNet(init_filters=16, out_channels=25, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)),
            ["it has 25 rows in its head, not 32 (conv_final.2.conv.weight)"],
        ),
        (
            lambda: nets.SwinUNETR(in_channels=1, out_channels=14, feature_size=24),
            ["24 features in its first stage, not 12", "--family monai_swinunetr"],
        ),
        (
            lambda: nets.SwinUNETR(in_channels=1, out_channels=5, feature_size=12),
            ["of no family that is known here", "--family monai_swinunetr"],
        ),
    ],
)
def test_networks_of_others_are_not_taken_for_published_ones(
    tmp_path: Path, network: Callable[[], nn.Module], differences: list[str]
) -> None:
    torch.save({"net": network().state_dict()}, tmp_path / "mine.pt")
    text = refusal(tmp_path / "mine.pt")
    for difference in differences:
        assert difference in text
    assert "it has" not in text or "is none of their files" in text


def test_other_tensors_than_those_of_the_family_are_refused(tmp_path: Path) -> None:
    checkpoint_files.suprem_segresnet(tmp_path / "mine.pt")
    content = torch.load(tmp_path / "mine.pt", weights_only=True)
    content["net"]["module.second_head.weight"] = torch.zeros(3)
    torch.save(content, tmp_path / "mine.pt")
    assert "layers that the network lacks: second_head.weight" in refusal(tmp_path / "mine.pt")


def test_a_published_file_needs_no_words_of_the_user(tmp_path: Path) -> None:
    checkpoint_files.suprem_segresnet(tmp_path / "file.pt")
    text = refusal(tmp_path / "file.pt", "--labels", "liver", "--hu", -160, 240)
    assert "say it themselves: leave --labels, --hu out" in text
