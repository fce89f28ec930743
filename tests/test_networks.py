"""Swin UNETR, SegResNet and the Genesis U-Net beside nnU-Net's own networks: structure, building and adapting."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import PLANS_NAME, REPOSITORY, Lab, fsseg, succeed, tiny_plans
from method_cases import Case, randomise, train
from monai.transforms import Compose, LoadImage, Orientation, ScaleIntensityRange
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiers import rest_full
from tiny import ARCHITECTURES, LAYERS, SMOKE_ARCHITECTURES, STRUCTURES, image, image_for, image_size, tiny_network
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import create_method
from fsseg.models.basic_unet import BasicUNet
from fsseg.models.genesis_unet import GenesisUNet
from fsseg.models.heads import PointwiseConv3d, logit, replace_heads
from fsseg.models.networks import (
    NETWORK_CLASSES,
    build_network,
    set_deep_supervision,
    supports_deep_supervision,
    total_strides,
)
from fsseg.models.parts import parts_of
from fsseg.models.seg_resnet import SegResNet
from fsseg.models.swin_unetr import SwinUNETR
from fsseg.models.tracing import LAYERS as LAYER_CLASSES
from fsseg.models.tracing import normalised_layers, scale_free_layers
from fsseg.nnunet.planning import read_plans_file

NETWORKS = {**ARCHITECTURES, **SMOKE_ARCHITECTURES}
SINGLE_HEAD = ("swin", "seg_resnet", "genesis", "basic_unet")
CPU = torch.device("cpu")


def count(parameters: Iterator[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def build(kind: str, *, deep_supervision: bool = False, **changes: Any) -> nn.Module:
    block = copy.deepcopy(NETWORKS[kind])
    block["arch_kwargs"].update(changes)
    return build_network(block, input_channels=1, output_channels=STRUCTURES, deep_supervision=deep_supervision)


@torch.no_grad()
def logits_of(network: nn.Module) -> Tensor:
    return network(image_for(network))


# Full size, against the counts and keys that FSEFT and SuPreM report


@pytest.fixture(scope="module")
def full_swin() -> SwinUNETR:
    return SwinUNETR(1, 1)


def test_full_swin_unetr_has_the_counts_of_fseft(full_swin: SwinUNETR) -> None:
    by_name = dict(full_swin.named_parameters())
    norms = [m for m in full_swin.swinViT.modules() if isinstance(m, nn.LayerNorm)]
    assert count(full_swin.parameters()) == 62_186_659
    assert sum(p.numel() for name, p in by_name.items() if name.startswith("decoder")) == 19_597_824
    assert count(parts_of(full_swin).decoder_parameters()) == 19_597_824
    assert len(norms) == 20
    assert sum(count(norm.parameters()) for norm in norms) == 17_280
    assert sum(p.numel() for name, p in by_name.items() if name.endswith("position_bias_table")) == 197_730
    assert count(parts_of(full_swin).heads.parameters()) == 49


def test_full_genesis_unet_has_the_counts_of_fseft_and_suprem() -> None:
    network = GenesisUNet(1, 1)
    encoder = [name for name, _ in network.named_parameters() if name.startswith("down_")]
    biases = sum(dict(network.named_parameters())[name].numel() for name in encoder if name.endswith("bias"))
    assert round(count(network.parameters()) / 1e6, 2) == 19.07
    assert count(parts_of(network).decoder_parameters()) == 12_045_824
    assert biases == 2_880
    assert count(parts_of(network).heads.parameters()) == 65
    assert len(network.state_dict()) == 106 - 3 * 14  # of the published 106, without running statistics


def test_full_seg_resnet_has_the_counts_of_suprem() -> None:
    network = SegResNet(1, 32)
    assert round(count(network.parameters()) / 1e6, 2) == 4.70
    assert len(network.state_dict()) == 83


KEYS = {
    "swin": {
        "swinViT.patch_embed.proj.weight": (48, 1, 2, 2, 2),
        "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table": (2197, 3),
        "swinViT.layers1.0.blocks.0.attn.relative_position_index": (343, 343),
        "swinViT.layers1.0.blocks.0.attn.qkv.weight": (144, 48),
        "swinViT.layers1.0.blocks.0.mlp.linear1.weight": (192, 48),
        "swinViT.layers1.0.downsample.reduction.weight": (96, 384),
        "swinViT.layers4.0.blocks.1.attn.relative_position_bias_table": (2197, 24),
        "encoder1.layer.conv3.conv.weight": (48, 1, 1, 1, 1),
        "encoder10.layer.conv1.conv.weight": (768, 768, 3, 3, 3),
        "decoder5.transp_conv.conv.weight": (768, 384, 2, 2, 2),
        "decoder1.conv_block.conv1.conv.weight": (48, 96, 3, 3, 3),
        "heads.0.weight": (1, 48, 1, 1, 1),
    },
    "basic_unet": {
        "conv_0.conv_0.conv.weight": (32, 1, 3, 3, 3),
        "conv_0.conv_0.adn.N.weight": (32,),
        "down_1.convs.conv_0.conv.weight": (32, 32, 3, 3, 3),
        "upcat_4.upsample.deconv.weight": (256, 128, 2, 2, 2),
        "upcat_1.convs.conv_0.conv.weight": (32, 64, 3, 3, 3),
        "heads.0.weight": (1, 32, 1, 1, 1),
    },
    "genesis": {
        "down_tr64.ops.0.conv1.weight": (32, 1, 3, 3, 3),
        "down_tr64.ops.0.conv1.bias": (32,),
        "down_tr64.ops.0.bn1.weight": (32,),
        "down_tr512.ops.1.conv1.weight": (512, 256, 3, 3, 3),
        "up_tr256.up_conv.weight": (512, 512, 2, 2, 2),
        "up_tr256.ops.0.conv1.weight": (256, 768, 3, 3, 3),
        "up_tr64.ops.1.conv1.weight": (64, 64, 3, 3, 3),
        "heads.0.weight": (1, 64, 1, 1, 1),
    },
    "seg_resnet": {
        "convInit.conv.weight": (16, 1, 3, 3, 3),
        "down_layers.1.0.conv.weight": (32, 16, 3, 3, 3),
        "up_samples.0.0.conv.weight": (64, 128, 1, 1, 1),
        "conv_final.0.weight": (16,),
        "heads.0.weight": (1, 16, 1, 1, 1),
    },
}


@pytest.mark.parametrize("kind", SINGLE_HEAD)
def test_keys_and_shapes_are_those_of_the_published_checkpoints(kind: str, full_swin: SwinUNETR) -> None:
    network = {
        "swin": lambda: full_swin,
        "genesis": lambda: GenesisUNet(1, 1),
        "seg_resnet": lambda: SegResNet(1, 1),
        "basic_unet": lambda: BasicUNet(1, 1),
    }
    shapes = {key: tuple(tensor.shape) for key, tensor in network[kind]().state_dict().items()}
    assert {key: shapes.get(key) for key in KEYS[kind]} == KEYS[kind]
    assert not any(key.startswith(("out.", "conv_final.2", "final_conv")) for key in shapes)


# Building


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_have_the_extents_of_the_image(kind: str) -> None:
    network = tiny_network(kind)
    z, y, x = image_size(network)
    with torch.no_grad():
        assert network(image(size=(z, 2 * y, x), batch=1)).shape == (1, STRUCTURES, z, 2 * y, x)


@pytest.mark.parametrize("kind", NETWORKS)
def test_nnunet_builds_the_same_network(kind: str) -> None:
    block = NETWORKS[kind]
    networks = []
    for builder in (build, _stock_build):
        torch.manual_seed(0)
        networks.append(builder(kind).eval())
    ours, stock = networks
    assert type(ours) is type(stock)
    assert f"{type(ours).__module__}.{type(ours).__name__}" == block["network_class_name"]
    assert list(ours.state_dict()) == list(stock.state_dict())
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, stock.state_dict()[key]), f"{key} starts differently"
    trained = tiny_network(kind)
    stock.load_state_dict(trained.state_dict())
    assert torch.equal(logits_of(stock), logits_of(trained))


def _stock_build(kind: str) -> nn.Module:
    block = NETWORKS[kind]
    arguments = (block["network_class_name"], block["arch_kwargs"], block["_kw_requires_import"], 1, STRUCTURES)
    return get_network_from_plans(*arguments, allow_init=True, deep_supervision=False)


def test_every_allowed_network_is_tested_here() -> None:
    assert {block["network_class_name"] for block in NETWORKS.values()} == NETWORK_CLASSES


def test_unknown_networks_are_refused_with_all_that_are_allowed() -> None:
    block = {**NETWORKS["swin"], "network_class_name": "fsseg.models.swin_unetr.SwinUnetr"}
    with pytest.raises(UsageError, match=r"Did you mean 'fsseg\.models\.swin_unetr\.SwinUNETR'") as caught:
        build_network(block, input_channels=1, output_channels=1, deep_supervision=False)
    with pytest.raises(UsageError, match="Networks of class Conv3d cannot be adapted") as unknown:
        parts_of(nn.Conv3d(1, 1, 1))
    for name in NETWORK_CLASSES:
        assert name in str(caught.value)
        assert name.rpartition(".")[2] in str(unknown.value)


BAD_ARGUMENTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "merging": ("swin", {"patch_merging": "mergingv2"}, "unknown patch_merging 'mergingv2', allowed: merging, legacy"),
    "depths": ("swin", {"depths": [2, 2, 2]}, "depths must have 4 entries"),
    "heads": ("swin", {"num_heads": [1, 2, 5, 4]}, "48 channels cannot be split into 5 heads"),
    "feature_size": ("swin", {"feature_size": 6}, "feature_size"),
    "wings": ("swin", {"wings": 2}, "do not fit SwinUNETR: .*wings"),
    "blocks": ("seg_resnet", {"blocks_up": [1]}, "blocks_up must have one entry less than blocks_down"),
    "filters": ("seg_resnet", {"init_filters": 12}, "do not fit SegResNet"),
    "levels": ("basic_unet", {"features": [4, 8]}, "features must have 6 entries"),
    "odd": ("genesis", {"base_features": 7}, "base_features must be even and positive, got 7"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_that_make_no_network_are_refused(name: str) -> None:
    kind, changes, message = BAD_ARGUMENTS[name]
    with pytest.raises(UsageError, match=message):
        build(kind, **changes)


@pytest.mark.parametrize(("kind", "stride"), [("plain", 4), ("swin", 32), ("seg_resnet", 4), ("genesis", 8)])
def test_total_stride_is_the_smallest_that_the_network_takes(kind: str, stride: int) -> None:
    assert total_strides(NETWORKS[kind]) == [stride] * 3
    network = tiny_network(kind)
    z, y, x = image_size(network)
    with torch.no_grad():
        assert network(image(size=(z, y, x + stride))).shape[2:] == (z, y, x + stride)
        with pytest.raises((RuntimeError, ValueError)):
            network(image(size=(z, y, x + stride // 2)))


def test_plans_whose_patch_does_not_fit_are_refused(tmp_path: Path) -> None:
    plans = json.loads((REPOSITORY / "plans" / "swinunetr_fseft.json").read_text(encoding="utf-8"))
    plans["configurations"]["3d_fullres"]["patch_size"] = [96, 96, 80]
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(UsageError, match=r"patch_size \[96, 96, 80\] must be divisible .* \[32, 32, 32\]"):
        read_plans_file(tmp_path / "plans.json")


# Heads and parts


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_head_as_a_matrix_product_is_the_convolution(layout: torch.memory_format) -> None:
    ours, theirs = PointwiseConv3d(6, 3, 1), torch.nn.Conv3d(6, 3, 1)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(2, 6, 4, 5, 7).to(memory_format=layout)
    results = []
    for head in (ours, theirs):
        features = image.detach().requires_grad_()
        logits = head(features)
        gradients = torch.autograd.grad(logits.square().sum(), [features, *head.parameters()])
        results.append([logits, *gradients])
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_head_is_replaced_in_place(kind: str) -> None:
    network = tiny_network(kind)
    before = logits_of(network)
    replace_heads(network, [2, 0, 0.25])
    after = logits_of(network)
    torch.testing.assert_close(after[:, :2], before[:, [2, 0]], rtol=0, atol=1e-6)
    assert parts_of(network).head.bias[2].item() == pytest.approx(logit(0.25))  # type: ignore[index]
    assert list(network.state_dict()) == list(tiny_network(kind).state_dict())


@pytest.mark.parametrize("kind", NETWORKS)
def test_parts_are_disjoint_and_of_this_network(kind: str) -> None:
    network = tiny_network(kind)
    parts = parts_of(network)
    named = [*parts.encoder.parameters(), *parts.decoder_parameters(), *parts.heads.parameters()]
    assert len({id(p) for p in named}) == len(named)
    rest = {name: p for name, p in network.named_parameters() if not any(p is own for own in named)}
    assert len(named) + len(rest) == len(list(network.parameters()))
    skips = ("encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10.") if kind == "swin" else ()
    assert all(name.startswith(skips) for name in rest)
    assert bool(rest) == bool(skips)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_written_down_by_hand_hold_all_parameters(kind: str) -> None:
    network = tiny_network(kind)
    parts = parts_of(network)
    sums = {name: sum(layer.parameters for layer in LAYERS[kind] if layer.part == name) for name in ("encoder", "skip")}
    assert count(parts.encoder.parameters()) == sums["encoder"]
    heads = count(parts.heads.parameters())
    assert count(network.parameters()) == sum(layer.parameters for layer in LAYERS[kind]) + heads
    modules = [m for m in network.modules() if isinstance(m, LAYER_CLASSES)]
    assert len(modules) == len(LAYERS[kind]) + len(parts.heads)


# Deep supervision


@pytest.mark.parametrize("kind", SINGLE_HEAD)
def test_networks_with_one_head_say_that_they_have_no_deep_supervision(kind: str) -> None:
    assert not supports_deep_supervision(NETWORKS[kind])
    with pytest.raises(UsageError, match="has no deep supervision"):
        build(kind, deep_supervision=True)
    network = build(kind)
    set_deep_supervision(network, False)
    with pytest.raises(UsageError, match="has no deep supervision"):
        set_deep_supervision(network, True)


def test_nnunets_networks_switch_deep_supervision() -> None:
    assert supports_deep_supervision(NETWORKS["plain"])
    network = build("plain", deep_supervision=True)
    assert len(network(image())) == 2
    set_deep_supervision(network, False)
    assert network(image()).shape[1] == STRUCTURES


@pytest.fixture
def one_head(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Preprocess, apart from what other tests use, for a network with one head and arrays read as (x, y, z)."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    plans = tiny_plans() | {"plans_name": "one_head", "transpose_forward": [2, 1, 0], "transpose_backward": [2, 1, 0]}
    changes = {"architecture": NETWORKS["genesis"], "data_identifier": "one_head"}
    plans["configurations"]["3d_fullres"].update(changes)
    (tmp_path / "one_head.json").write_text(json.dumps(plans))
    succeed("preprocess", "--dataset", "901", "--plans", tmp_path / "one_head.json")
    return "one_head"


def test_a_network_with_one_head_goes_the_whole_way_to_stock_prediction(
    lab: Lab, one_head: str, tmp_path: Path
) -> None:
    base, run, images = tmp_path / "base", tmp_path / "run", tmp_path / "images"
    succeed(*(one_head if word == PLANS_NAME else word for word in lab.pretrain_words(base, steps=4)))
    succeed(*lab.adapt_words(run, base=base, method="decoder"))
    images.mkdir()
    shutil.copy(lab.image(3), images)
    succeed("predict", "--run", run, "--input", images, "--output", tmp_path / "ours", "--device", "cpu")
    (ours,) = (tmp_path / "ours").glob("*.nii.gz")
    predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(run), (0,), "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[str(lab.image(3))]], [str(tmp_path / "stock.nii.gz")], overwrite=True)
    label_maps = [SimpleITK.ReadImage(path) for path in (ours, tmp_path / "stock.nii.gz", lab.image(3))]
    assert len({(image.GetSize(), image.GetOrigin(), image.GetDirection()) for image in label_maps}) == 1
    arrays = [SimpleITK.GetArrayFromImage(label_map) for label_map in label_maps[:2]]
    assert np.array_equal(*arrays)
    assert len(np.unique(arrays[0])) > 1


# What is special about each


def test_patch_merging_orders_the_sub_lattices_as_the_option_says() -> None:
    """The voxel at (z, y, x) holds 4 z + 2 y + x, and norm and reduction pass everything through."""
    expected = {"merging": [0, 4, 2, 1, 6, 5, 3, 7], "legacy": [0, 4, 2, 1, 5, 2, 1, 7]}
    for option, order in expected.items():
        merging = build("swin", patch_merging=option).swinViT.layers1[0].downsample  # type: ignore[union-attr, index]
        merging.norm = merging.reduction = nn.Identity()
        voxels = torch.arange(8.0).view(1, 2, 2, 2, 1)
        assert merging(voxels).flatten().tolist() == order


def test_legacy_patch_merging_equals_a_loop_over_voxels() -> None:
    merging = build("swin", patch_merging="legacy").swinViT.layers1[0].downsample  # type: ignore[union-attr, index]
    x = torch.randn(2, 4, 2, 6, 12, generator=torch.Generator().manual_seed(0))
    offsets = ["000", "100", "010", "001", "101", "010", "001", "111"]
    expected = torch.empty(2, 2, 1, 3, 24)
    for b, z, y, x_ in np.ndindex(2, 2, 1, 3):
        corner = 2 * z, 2 * y, 2 * x_
        eight = [x[b, corner[0] + int(o[0]), corner[1] + int(o[1]), corner[2] + int(o[2])] for o in offsets]
        values = torch.cat(eight)
        values = (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()
        expected[b, z, y, x_] = merging.reduction.weight @ values
    torch.testing.assert_close(merging(x), expected, rtol=1e-4, atol=1e-5)


def test_merging_orders_share_their_keys_and_differ_in_their_output() -> None:
    torch.manual_seed(0)
    current, legacy = build("swin").eval(), build("swin", patch_merging="legacy").eval()
    legacy.load_state_dict(current.state_dict())
    assert (logits_of(current) - logits_of(legacy)).abs().max() > 1e-3


def test_genesis_unet_normalises_by_the_batch_in_training_and_evaluation() -> None:
    network = tiny_network("genesis")
    first, second, third = (image(seed=seed, batch=1) for seed in (1, 2, 3))
    with torch.no_grad():
        alone, beside_second, beside_third = (
            network(torch.cat(batch))[:1] for batch in ([first], [first, second], [first, 5 * third])
        )
        assert (alone - beside_second).abs().max() > 1e-3
        assert (beside_second - beside_third).abs().max() > 1e-3
        network.train()
        assert torch.equal(network(torch.cat([first, second]))[:1], beside_second)
        network.eval()
        assert torch.equal(network(torch.cat([first, second]))[:1], beside_second)
    assert not list(network.buffers())


# Which layers stand in front of a normalisation

NORMALISED: dict[str, Callable[[str], bool]] = {
    # By name: convolutions of MONAI's residual blocks, each with a norm right behind it.
    "swin": lambda name: ".conv1." in name or ".conv2." in name or ".conv3." in name,
    # Norm, ReLU, convolution: what leaves a block goes around the next norm as well.
    "seg_resnet": lambda name: ".conv1." in name,
    "genesis": lambda name: ".conv1" in name,
    "basic_unet": lambda name: name.endswith(".conv."),
}


@pytest.mark.parametrize("kind", SINGLE_HEAD)
def test_layers_in_front_of_a_norm_are_found(kind: str) -> None:
    network = tiny_network(kind)
    names = {m: name for name, m in network.named_modules() if isinstance(m, LAYER_CLASSES)}
    found = {names[layer] for layer in normalised_layers(network)}
    assert found == {name for name in names.values() if NORMALISED[kind](f"{name}.")}
    free = {names[layer] for layer in scale_free_layers(network)}
    # Eight groups of eight channels at full resolution are single channels; further down they are not.
    groups_of_one = {name for name in found if network.get_submodule(name).weight.shape[0] == 8}  # type: ignore[union-attr, operator]
    assert free == (groups_of_one if kind == "seg_resnet" else found)
    assert free


@pytest.mark.parametrize("kind", ["plain", "residual", "seg_resnet", "genesis"])
def test_layers_are_scale_free_exactly_if_scaling_a_channel_changes_nothing(kind: str) -> None:
    network = tiny_network(kind)
    free = scale_free_layers(network)
    network, x = network.double(), image().double()
    heads = set(parts_of(network).heads)
    for name, layer in network.named_modules():
        if isinstance(layer, LAYER_CLASSES) and layer not in heads:
            changes = _change_from_scaling(network, layer, x)
            assert (changes < 1e-3) == (layer in free), (name, changes)


@torch.no_grad()
def _change_from_scaling(network: nn.Module, layer: nn.Module, x: Tensor) -> float:
    """Return how much the logits change when the first output channel of a layer is multiplied by 3."""
    before = network(x)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    rows = [weight[:, 0] if isinstance(layer, nn.ConvTranspose3d) else weight[0]]
    rows += [layer.bias[:1]] if layer.bias is not None else []  # type: ignore[index]
    for row in rows:
        row.mul_(3.0)
    change = (network(x) - before).abs().max().item()
    for row in rows:
        row.div_(3.0)
    return change


# Adapting

METHODS = ("full", "decoder", "linear_probe", "lora")
ADAPTATIONS = [*((kind, method) for kind in SINGLE_HEAD for method in METHODS), ("swin", "lora:fseft")]


@pytest.mark.parametrize(("kind", "method"), rest_full(ADAPTATIONS, *((kind, "lora") for kind in SMOKE_ARCHITECTURES)))
def test_adapting_trains_what_it_says_and_nothing_else(kind: str, method: str) -> None:
    torch.manual_seed(0)
    adapted = AdaptedNetwork(tiny_network(kind), create_method(method))
    assert torch.equal(logits_of(adapted.network), logits_of(tiny_network(kind)))
    before = copy.deepcopy(adapted.network.state_dict())
    base = tiny_network(kind)
    dead = {layer.bias for layer in scale_free_layers(base)}
    trained = set(adapted.trainable()) - {name for name, p in base.named_parameters() if p in dead}
    losses = _losses(adapted, steps=4)
    assert losses[-1] < losses[0]
    changed = {name for name, p in adapted.network.named_parameters() if not torch.equal(p, before[name])}
    assert trained <= changed <= set(adapted.trainable())
    if not method.startswith("lora"):
        return
    base.load_state_dict(adapted.merged_state_dict())
    torch.testing.assert_close(logits_of(base), logits_of(adapted.network.eval()), rtol=0, atol=1e-5)


def _losses(adapted: AdaptedNetwork, steps: int) -> list[float]:
    """Train towards an all-foreground segmentation; return the loss before each step."""
    optimizer = torch.optim.AdamW(adapted.trainable().values(), 1e-3, weight_decay=0.0)
    adapted.train_mode()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.softplus(-adapted.network(image_for(adapted.network))).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


INSERTING = (
    "arena",
    "adalora",
    "lora_tucker",
    "dora",
    "adaptformer",
    "residual_adapter:zero",
    "conv_adapter",
    "compacter",
)


@pytest.mark.parametrize("method", rest_full([*INSERTING, "ssf", "bitfit"], "adaptformer", "ssf"))
@pytest.mark.parametrize("kind", SMOKE_ARCHITECTURES)
def test_methods_start_as_the_base_and_merge_exactly_on_every_network(kind: str, method: str) -> None:
    case = Case(method, "frozen", kind)
    adapted = case.adapt()
    torch.testing.assert_close(logits_of(adapted.network), logits_of(tiny_network(kind)), rtol=0, atol=1e-6)
    randomise(adapted)
    train(adapted, steps=1)
    trained = logits_of(adapted.network)
    assert (trained - logits_of(tiny_network(kind))).abs().max() > 0.1
    fresh = case.adapt(seed=99)
    fresh.load_state(adapted.compact_state())
    torch.testing.assert_close(logits_of(fresh.network), trained, rtol=0, atol=1e-5)
    if not adapted.method.not_merged_because:
        plain = tiny_network(kind, seed=5)
        plain.load_state_dict(adapted.merged_state_dict(), strict=True)
        torch.testing.assert_close(logits_of(plain), trained, rtol=0, atol=1e-5)


# Shipped plans

TRAINED_BY_DECODER_TUNING = {
    "headneck_cpu": (376_768, 17),
    "hippocampus_cpu": (376_768, 17),
    "swinunetr_fseft": (19_597_824, 49),
    "genesis_unet": (12_045_824, 65),
    "seg_resnet": (301_536, 17),
    "resenc_l": (12_051_584, 33),
    "resenc_l_zscore": (12_051_584, 33),
    "multitalent_unet": (15_822_690, 31),
    "phantom_plans": (94_304, 9),
}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "plans").glob("*.json")), ids=lambda path: path.stem)
def test_methods_are_counted_on_shipped_plans(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsseg.methods.description.method_names", lambda: ["decoder"])  # the largest take minutes
    outcome = fsseg("methods", "--plans", path, "--json")
    assert outcome.code == 0, outcome.err
    (row,) = outcome.json
    assert (row["trainable"], row["head"]) == TRAINED_BY_DECODER_TUNING[path.stem]


# Fewshot-finetuning's counts, head and all, for one structure on Swin UNETR of feature size 48.
PUBLISHED_COUNTS = {
    "linear_probe": 49,
    "spatial_adapter": 124_465,
    "bitfit:fseft": 210_739,
    "affine:fseft": 17_329,
    "lora:fseft": 69_169,
    "adaptformer:fseft": 47_697,
}


def test_published_parameter_counts_are_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsseg.methods.description.method_names", lambda: list(PUBLISHED_COUNTS))
    outcome = fsseg("methods", "--plans", REPOSITORY / "plans" / "swinunetr_fseft.json", "--json")
    assert outcome.code == 0, outcome.err
    assert {row["name"]: row["trainable"] + row["head"] for row in outcome.json} == PUBLISHED_COUNTS


@pytest.mark.parametrize("name", ["swinunetr_fseft", "genesis_unet", "seg_resnet"])
def test_shipped_plans_preprocess_as_the_published_weights_were_trained(name: str, tmp_path: Path) -> None:
    """MONAI reads (x, y, z) in RAS and scales -175 to 250 HU to 0 to 1; the image is stored in another orientation."""
    voxels = np.random.default_rng(0).uniform(-400, 400, size=(6, 7, 8)).astype(np.float32)
    stored = SimpleITK.GetImageFromArray(voxels)
    stored.SetSpacing((1.5, 1.5, 1.5))
    stored.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, -1))
    SimpleITK.WriteImage(stored, tmp_path / "ct.nii.gz")
    load = Compose([LoadImage(image_only=True, ensure_channel_first=True), Orientation("RAS", labels=None)])
    expected = ScaleIntensityRange(-175, 250, 0, 1, clip=True)(load(tmp_path / "ct.nii.gz"))

    plans = PlansManager(read_plans_file(REPOSITORY / "plans" / f"{name}.json"))
    configuration = plans.get_configuration("3d_fullres")
    data, properties = plans.image_reader_writer_class().read_images([str(tmp_path / "ct.nii.gz")])
    preprocessor = configuration.preprocessor_class(verbose=False)
    ours, _, _ = preprocessor.run_case_npy(data, None, properties, plans, configuration, {})
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-6)
