"""Other image channels: the weights compute what they should, and nothing is guessed from names."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny import _ALL_ARCHITECTURES, STRUCTURES, image_size, tiny_network
from torch import Tensor, nn

from fsseg.checkpoints.channel_plans import with_channels
from fsseg.checkpoints.input_channels import ChannelMap, channel_map, mixed_weights
from fsseg.checkpoints.plans import Intensities, NetworkInput, make_plans
from fsseg.config.errors import FssegError, UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.ignored_channels import ignored_channels
from fsseg.methods.registry import create_method, method_class, method_names
from fsseg.models.networks import build_network
from fsseg.nnunet.normalization import STATISTICS

KINDS = ("plain", "residual", "plain_batch_norm", "seg_resnet", "swin")
OPTIONS: dict[str, dict[str, Any]] = {
    "lora_tucker": {"rank": 4},
    "adalora": {"rank": 4, "target_rank": 2},
    "arena": {"rank": 4},
}


def rebuilt(kind: str, weights: dict[str, Tensor], channels: int) -> nn.Module:
    network = build_network(
        _ALL_ARCHITECTURES[kind], input_channels=channels, output_channels=STRUCTURES, deep_supervision=False
    )
    network.load_state_dict(weights, strict=True)
    return network.eval()


def with_words(kind: str, words: Sequence[str], old: Sequence[str] = ("CT",)) -> tuple[nn.Module, nn.Module]:
    """Return a tiny network that reads `old`, and what --channels makes of it."""
    network = tiny_network(kind)
    if len(old) > 1:
        spread = channel_map([f"{name}=CT" for name in old], ["CT"])
        weights = mixed_weights(network.state_dict(), _ALL_ARCHITECTURES[kind], spread)
        torch.manual_seed(5)  # moved, so that the channels differ
        weights = {name: t + 0.01 * torch.randn_like(t) if t.ndim == 5 else t for name, t in weights.items()}
        weights = {name: weights[first] for name, first in first_names(network).items()}
        network = rebuilt(kind, weights, len(old))
    channels = channel_map(words, old)
    mixed = mixed_weights(network.state_dict(), _ALL_ARCHITECTURES[kind], channels)
    return network, rebuilt(kind, mixed, len(words))


def first_names(network: nn.Module) -> dict[str, str]:
    """Name -> the first name of the same tensor: nnU-Net lists each several times."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(t), name) for name, t in network.state_dict(keep_vars=True).items()}


def same(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    return torch.allclose(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def images(network: nn.Module, channels: int, seed: int = 0) -> Tensor:
    return torch.randn(1, channels, *image_size(network), generator=torch.Generator().manual_seed(seed))


# Weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [("CT", "MR=CT"), ("T1=CT", "T2=CT", "FLAIR=0")])
def test_equal_images_give_what_the_old_network_gave(kind: str, words: Sequence[str]) -> None:
    old, new = with_words(kind, words)
    image = images(old, 1)
    with torch.no_grad():
        expected, found = old(image), new(image.expand(-1, len(words), -1, -1, -1))
        other = new(torch.cat([image, image + images(old, len(words) - 1, seed=1)], dim=1))
    assert same(found, expected)
    assert not same(other, expected, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [("CT", "PET"), ("PET", "CT")])
def test_a_channel_that_starts_at_zero_is_ignored(kind: str, words: Sequence[str]) -> None:
    old, new = with_words(kind, words)
    image, position = images(old, 1), words.index("CT")
    with torch.no_grad():
        expected = old(image)
        for seed in (1, 2):
            both = 100 * images(old, 2, seed)
            both[:, position] = image[:, 0]
            assert same(new(both), expected, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_another_order_reads_the_same_images(kind: str) -> None:
    old, new = with_words(kind, ("B", "C", "A"), old=("A", "B", "C"))
    image = images(old, 3)
    with torch.no_grad():
        assert same(new(image[:, [1, 2, 0]]), old(image))
        assert not same(new(image), old(image), 1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_is_left_out_counts_as_zero(kind: str) -> None:
    old, new = with_words(kind, ("C",), old=("A", "B", "C"))
    image = images(old, 3)
    image[:, :2] = 0
    with torch.no_grad():
        assert same(new(image[:, 2:]), old(image))


def test_copies_under_several_names_stay_equal() -> None:
    network = tiny_network("residual")
    channels = channel_map(["CT", "MR=CT", "PET"], ["CT"])
    mixed = mixed_weights(network.state_dict(), _ALL_ARCHITECTURES["residual"], channels)
    readers = [name for name, tensor in mixed.items() if tensor.ndim == 5 and tensor.shape[1] == 3]
    assert len(readers) == 4  # conv and all_modules.0, in the encoder and in the decoder's reference to it
    assert all(torch.equal(mixed[name], mixed[readers[0]]) for name in readers)
    assert not mixed[readers[0]][:, 2].any()


def test_a_network_that_changes_otherwise_is_refused() -> None:
    """With as many image channels as features, MONAI's block needs no convolution on its residual path."""
    channels = channel_map([f"c{number}=CT" for number in range(12)], ["CT"])
    with pytest.raises(UsageError, match=r"cannot be changed: with their number encoder1\.layer.* to nothing"):
        mixed_weights(tiny_network("swin").state_dict(), _ALL_ARCHITECTURES["swin"], channels)


def test_weights_of_another_number_of_channels_are_refused() -> None:
    _, two = with_words("plain", ("CT", "PET=CT"))
    with pytest.raises(FssegError, match=r"says that it takes 1 image channel.*\(4, 2, 3, 3, 3\): it is damaged"):
        mixed_weights(two.state_dict(), _ALL_ARCHITECTURES["plain"], channel_map(["A=CT", "B=CT"], ["CT"]))


# What --channels means


def test_what_each_channel_starts_from_is_reported() -> None:
    channels = channel_map(["T2", "T1c=T1", "T1", "PET", "X=3"], ["T1", "T2", "any", "any", "FLAIR"])
    assert channels.as_dict() == {
        "start": {"T2": "kept", "T1c": "T1 / 2", "T1": "T1 / 2", "PET": "zero", "X": "any"},
        "left_out": ["any", "FLAIR"],
    }
    notes = "\n".join(channels.notes())
    assert "T1c, T1 start from the weights of 'T1' / 2 each" in notes
    assert "IGNORED FOR NOW: 'PET' starts with zero weights" in notes


@pytest.mark.parametrize(
    ("words", "old", "message"),
    [
        (["T1", "T2"], ["CT"], r"takes nothing from the checkpoint.*0: CT.*\n.*--channels T1=CT T2=CT"),
        (["T1", "T2"], ["any"], r"--channels T1=any T2=any"),
        (["T1"], ["any", "any"], r"0: any, 1: any.*\n.*--channels T1=0"),
        (["T1=any"], ["any", "any"], r"2 channels of the name 'any'.*\n.*such as T1=0"),
        (["any"], ["any", "any"], r"2 channels of the name 'any'"),
        (["CT", "CT=CT"], ["CT"], r"names 'CT' twice"),
        (["MR=TC"], ["CT"], r"Unknown channel of the checkpoint 'TC'. Did you mean 'CT'\?"),
        (["MR=2"], ["CT", "PET"], r"Unknown channel of the checkpoint '2'.*\n.*CT, PET"),
        (["MR="], ["CT"], r"takes NAME or NAME=OLD, got 'MR='"),
        (["=CT"], ["CT"], r"takes NAME or NAME=OLD, got '=CT'"),
    ],
)
def test_words_that_cannot_be_meant(words: list[str], old: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        channel_map(words, old)


# Normalisation


def plans_for(*schemes: str, mask: bool = False) -> dict[str, Any]:
    intensities = [Intensities(50.0, 100.0, -200.0, 400.0) if s == "CTNormalization" else None for s in schemes]
    plans = make_plans(
        "tiny",
        "",
        _ALL_ARCHITECTURES["plain"],
        NetworkInput(spacing=(1, 1, 1), patch=(16, 16, 16), intensities=intensities, axes="zyx"),
    )
    block = plans["configurations"]["3d_fullres"]
    block["normalization_schemes"] = list(schemes)
    block["use_mask_for_norm"] = [mask and s == "ZScoreNormalization" for s in schemes]
    plans["configurations"]["2d"] = {"inherits_from": "3d_fullres"}
    return plans


CT, Z, NONE = "CTNormalization", "ZScoreNormalization", "NoNormalization"


@pytest.mark.parametrize(
    ("words", "old", "schemes", "expected", "note"),
    [
        (["CT", "CT_venous=CT"], ["CT"], [CT], [CT, CT], None),
        (["ceCT=CT"], ["CT"], [CT], [CT], None),
        (["MR=CT"], ["CT"], [CT], [Z], "MR is normalised by ZScoreNormalization, by its name: the CTNormalization"),
        (["CT", "PET"], ["CT"], [CT], [CT, Z], "PET is normalised by ZScoreNormalization, by its name."),
        (["CT=any"], ["any"], [Z], [Z], "CT is normalised by ZScoreNormalization, with which 'any' was trained"),
        (["SUV=noNorm"], ["noNorm"], [NONE], [NONE], "SUV is normalised by NoNormalization, with which 'noNorm'"),
        (["zscore=noNorm"], ["noNorm"], [NONE], [Z], "zscore is normalised by ZScoreNormalization, by its name"),
        (["T1"], ["T1", "T2"], [Z, Z], [Z], "'T2' of the checkpoint is left out, as if .*: their mean"),
        (["T1"], ["T1", "CT"], [Z, CT], [Z], "'CT' of the checkpoint is left out, as if .*: 50 HU"),
        (["T1"], ["T1", "noNorm"], [Z, NONE], [Z], "with NoNormalization this is not their mean, so features shift"),
    ],
)
def test_normalisation_follows_the_channels(
    words: list[str], old: list[str], schemes: list[str], expected: list[str], note: str | None
) -> None:
    before = plans_for(*schemes)
    plans, notes = with_channels(before, "3d_fullres", channel_map(words, old))
    assert list(plans["configurations"]) == ["3d_fullres"]
    assert plans["configurations"]["3d_fullres"]["normalization_schemes"] == expected
    statistics = plans[STATISTICS]
    assert list(statistics) == [str(index) for index in range(len(words))]
    assert all(bool(entry) == (scheme == CT) for entry, scheme in zip(statistics.values(), expected, strict=True))
    assert len(notes) == (note is not None)
    if note is not None:
        assert re.search(note, notes[0])
    assert before == plans_for(*schemes)


def test_masks_follow_the_channels() -> None:
    for mask in (True, False):
        plans, _ = with_channels(plans_for(Z, Z, mask=mask), "3d_fullres", channel_map(["T2", "PET"], ["T1", "T2"]))
        assert plans["configurations"]["3d_fullres"]["use_mask_for_norm"] == [mask, mask]
    plans, _ = with_channels(plans_for(Z, mask=True), "3d_fullres", channel_map(["T1", "nonorm"], ["T1"]))
    assert plans["configurations"]["3d_fullres"]["use_mask_for_norm"] == [True, False]


def test_a_ct_without_statistics_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'CT' would start at zero with CTNormalization.*\n.*Write CT=T1 .*--plans"):
        with_channels(plans_for(Z), "3d_fullres", channel_map(["T1", "CT"], ["T1"]))


def test_plans_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(FssegError, match=r"normalise 2 channel\(s\), but the checkpoint has 1: T1"):
        with_channels(plans_for(Z, Z), "3d_fullres", channel_map(["T1"], ["T1"]))


# What an adaptation can and cannot wake up


def adapted_with_zero_channel(method: str, kind: str, decoder: Any = None, **options: Any) -> AdaptedNetwork:
    _, network = with_words(kind, ("CT", "PET"))
    torch.manual_seed(0)
    return AdaptedNetwork(network, create_method(method, {**OPTIONS.get(method, {}), **options}), decoder)


def reads_after_training(adapted: AdaptedNetwork, channel: int, steps: int = 4) -> bool:
    """Return whether the logits depend on a channel after a few steps of training."""
    trained = list(adapted.trainable().values())
    optimiser = torch.optim.Adam(trained, lr=0.02)
    for step in range(steps):
        image = images(adapted.network, 2, seed=10 + step)
        logits = adapted.network(image)
        target = images(adapted.network, logits.shape[1], seed=20 + step)
        optimiser.zero_grad()
        (logits - target).square().mean().backward()
        optimiser.step()
    image = images(adapted.network, 2)
    other = image.clone()
    other[:, channel] = images(adapted.network, 1, seed=3)[:, 0]
    with torch.no_grad():
        return not torch.allclose(adapted.network(image), adapted.network(other), atol=1e-5)


DEAD = {"decoder", "linear_probe", "spatial_adapter", "prototype", "bitfit", "affine", "affine:fseft", "tinytl"}
DEAD |= {"tinytl:fseft", "ssf", "compacter"}  # its adapters read what a block returns
NOT_CONVOLUTIONAL = {"lora:fseft", "adalora:arena", "arena:paper", "bitfit:fseft"}


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("method", [name for name in method_names() if name not in NOT_CONVOLUTIONAL])
def test_what_is_called_ignored_stays_ignored_and_nothing_else_does(method: str, kind: str) -> None:
    for decoder in method_class(method).decoder_choices:
        if method == "dora" and decoder == "tuned":
            continue  # not defined there
        adapted = adapted_with_zero_channel(method, kind, decoder)
        before = {name: tensor.clone() for name, tensor in adapted.network.state_dict().items()}
        found = ignored_channels(adapted, 2, image_size(adapted.network))
        assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.network.state_dict().items())
        assert all(p.grad is None for p in adapted.network.parameters())
        assert (found == [1]) == (not reads_after_training(adapted, 1))
        if kind == "plain":
            assert (method in DEAD) == (found == [1])


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("lora", {"targets": "decoder"}, [1]),
        ("lora", {"targets": "encoder"}, []),
        ("lora:fseft", {}, [1]),
        ("full", {}, []),
    ],
)
def test_it_is_the_trained_layers_that_decide(method: str, options: dict[str, Any], expected: list[int]) -> None:
    adapted = adapted_with_zero_channel(method, "swin", **options)
    assert ignored_channels(adapted, 2, image_size(adapted.network)) == expected


def test_channels_with_weights_are_not_called_ignored() -> None:
    _, network = with_words("plain", ("CT", "PET=CT"))
    adapted = AdaptedNetwork(network, create_method("linear_probe"))
    assert ignored_channels(adapted, 2, (16, 16, 16)) == []


def test_a_map_may_keep_everything() -> None:
    channels: ChannelMap = channel_map(["CT"], ["CT"])
    assert channels.as_dict() == {"start": {"CT": "kept"}, "left_out": []}
    assert channels.notes() == []
