"""`fsseg.apply_method`: methods on networks that fsseg does not know, in a training loop of one's own."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks import nets
from tiny import tiny_network
from torch import Tensor, nn

import fsseg as api
from fsseg.config.errors import FssegError, UsageError

LEARNING_RATE = 0.01


def dynunet() -> nn.Module:
    return nets.DynUNet(
        3, 1, 2, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 8), norm_name=("instance", {"affine": True})
    )


def volume(*extents: int) -> Tensor:
    return torch.randn(2, 1, *extents, generator=torch.Generator().manual_seed(1))


# A network, an input of it, and the name of its head.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, str]] = {
    "monai unet": (
        lambda: nets.UNet(3, 1, 2, channels=(4, 8, 8), strides=(2, 2), num_res_units=1, norm="batch"),
        volume(16, 16, 16),
        "model.2.1.conv.unit0.conv",
    ),
    "swin unetr": (
        lambda: nets.SwinUNETR(1, 2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), window_size=2),
        volume(64, 64, 32)[:1],
        "out.conv.conv",
    ),
    "dynunet": (dynunet, volume(16, 16, 16), "output_block.conv.conv"),
    "nnunet": (lambda: tiny_network("plain"), volume(16, 16, 16), "decoder.seg_layers.1"),
    "sequential": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3), nn.ReLU(), nn.Conv3d(4, 2, 1)
        ),
        volume(8, 8, 8),
        "4",
    ),
    "2d": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(4, 2, 1)),
        volume(8, 8),
        "3",
    ),
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "arena": {"rank": 2, "sparsity": 0.01},
    "dora": {"rank": 2},
    "lora_tucker": {"rank": 2},
    "adalora": {"rank": 2, "target_rank": 1},
    "ssf": {},
    "bitfit": {},
    "affine": {},
    "l2_sp": {},
    "full": {},
    "adaptformer": {"bottleneck": 4},
    "compacter": {"bottleneck": 4, "products": 2, "targets": "all"},
    "conv_adapter": {"targets": "all"},
    "residual_adapter:zero": {"targets": "all"},
    "spatial_adapter": {},
    "linear_probe": {},
}
EVERYWHERE = ("lora", "arena")
# What is not defined where, and why; "sequential" has no norms or blocks, "2d" has no volumes either.
UNDEFINED: dict[tuple[str, str], str] = {
    ("affine", "sequential"): "norms have no affine parameters",
    ("adaptformer", "sequential"): "there is no block",
    ("compacter", "sequential"): "there is no block",
    ("bitfit", "2d"): "has no 3D convolution",
    ("conv_adapter", "2d"): "no convolution larger than 1x1x1",
    ("spatial_adapter", "2d"): "no 3D convolution",
}
CASES = [(m, n) for m in EVERYWHERE for n in NETWORKS if (m, n) != ("arena", "swin unetr")]  # seconds a step
CASES += [(m, n) for m in METHODS if m not in EVERYWHERE for n in ("monai unet", "nnunet")]
CASES += [(m, "2d") for m in ("lora_tucker", "l2_sp", "full", "linear_probe")]


def made(kind: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[kind][0]()
    with torch.no_grad():  # biases of zero would hide that they are dropped
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return network


def applied(method: str, kind: str, **more: Any) -> nn.Module:
    torch.manual_seed(2)
    return api.apply_method(made(kind), method, head=NETWORKS[kind][2], **METHODS[method], **more)


def train(network: nn.Module, image: Tensor, steps: int = 2) -> None:
    adapter = api.adapter_of(network)
    optimizer = torch.optim.AdamW(adapter.parameter_groups(LEARNING_RATE), weight_decay=0.1)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        (network(image).square().mean() + network(image).sin().mean() + adapter.penalty()).backward()
        adapter.before_step()
        optimizer.step()
        adapter.after_step(LEARNING_RATE)
    network.eval()


@pytest.mark.parametrize(("method", "kind"), CASES)
@torch.no_grad()
def test_the_contract_holds_on_networks_of_others(method: str, kind: str, tmp_path: Path) -> None:
    image = NETWORKS[kind][1]
    plain, network = made(kind).eval(), applied(method, kind).eval()
    adapter = api.adapter_of(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert (network(image) - plain(image)).abs().max() <= 1e-5, "it starts as the network that it was"

    with torch.enable_grad():
        train(network, image)
    assert (network(image) - plain(image)).abs().max() > 1e-4, "it takes effect"
    trained = adapter.trainable()
    assert trained.keys() == {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    changing = {tensor.data_ptr() for tensor in (*trained.values(), *adapter._adapted._changing().values())}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.data_ptr() not in changing:
            assert torch.equal(tensor, before[name]), f"{name} is frozen"

    adapter.save(tmp_path / "mine.safetensors")
    fresh = applied(method, kind).eval()
    api.adapter_of(fresh).load(tmp_path / "mine.safetensors")
    assert torch.equal(fresh(image), network(image)), "saved and loaded it computes the same"

    expected = network(image)
    copied = copy.deepcopy(network)
    if adapter._method.not_merged_because:
        with pytest.raises(UsageError, match="cannot be merged"):
            adapter.merge()
        assert torch.equal(network(image), expected)
        return
    merged = adapter.merge()
    assert merged is network
    assert list(merged.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.modules()]
    assert all(p.requires_grad for p in merged.parameters())
    assert torch.equal(merged(image), expected), "merged it computes the same"
    assert torch.equal(copied(image), expected), "a copy stays adapted"
    plain.load_state_dict(merged.state_dict())
    assert torch.equal(plain(image), expected)
    api.apply_method(merged, "lora", rank=1)


@pytest.mark.parametrize(("method", "kind"), UNDEFINED)
def test_a_method_that_is_not_defined_says_why_and_leaves_the_network(method: str, kind: str) -> None:
    network = made(kind)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UsageError, match=UNDEFINED[method, kind]):
        api.apply_method(network, method, head=NETWORKS[kind][2], **METHODS[method])
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())
    api.apply_method(network, "lora", rank=1)


def test_only_the_adapter_is_trained_unless_more_is_asked_for() -> None:
    network = api.apply_method(made("nnunet"), "lora", rank=2)
    assert all(".parametrizations." in name for name in api.adapter_of(network).trainable())
    network = api.apply_method(made("nnunet"), "lora", rank=2, head=True, decoder="tuned")
    names = api.adapter_of(network).trainable()
    assert {"decoder.seg_layers.1.weight", "decoder.stages.0.convs.0.conv.weight"} <= set(names)
    assert not any("decoder" in name and "parametrizations" in name for name in names)
    groups = api.adapter_of(network).parameter_groups(1.0, decoder_lr=2.0, head_lr=3.0)
    assert sorted({(group["name"], group["lr"]) for group in groups}) == [("decoder", 2), ("head", 3), ("method", 1)]


def test_parts_of_an_unknown_network_are_named() -> None:
    parts = api.NetworkParts(encoder=("0",), decoder=("2",))
    network = api.apply_method(made("sequential"), "lora", rank=2, targets="encoder", decoder="tuned", parts=parts)
    assert set(api.adapter_of(network).trainable()) == {
        "0.parametrizations.weight.0.left",
        "0.parametrizations.weight.0.right",
        "2.weight",
        "2.bias",
    }
    linear = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    api.apply_method(linear, "bitfit", parts=api.NetworkParts(input_shape=(1, 6)))
    assert set(api.adapter_of(linear).trainable()) == {"0.bias", "2.bias"}


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "encoder": ("conv_adapter", {}, r'its encoder is not known.\n.*NetworkParts.*or take targets="all"'),
    "decoder": ("lora", {"decoder": "tuned"}, "its decoder is not known"),
    "head": ("lora", {"head": True}, 'is its head is not known.\n  Name it: head="NAME", one of 0, 1, 2, 3, 4'),
    "name": ("lora", {"head": "5"}, "has no submodule '5'"),
    "features": ("linear_probe", {}, 'Name it: head="NAME"'),
    "nothing": ("linear_probe", {"parts": api.NetworkParts(head="4")}, "trains nothing on Sequential"),
    "no step": ("prototype", {}, "takes no step"),
    "scratch": ("from_scratch", {}, "starts from new weights"),
    "method": ("lorra", {}, "Did you mean 'lora'"),
    "option": ("lora", {"ranks": 3}, "did you mean 'rank'"),
    "shape": ("bitfit", {"parts": api.NetworkParts(input_shape=(1, 3, 8, 8, 8))}, r"cannot read an input.*\[1, 3, 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_applied_is_refused_with_a_way_out(case: str) -> None:
    method, arguments, message = REFUSED[case]
    with pytest.raises(UsageError, match=message):
        api.apply_method(made("sequential"), method, **arguments)


def test_misuse_is_refused(tmp_path: Path) -> None:
    network = made("sequential")
    with pytest.raises(UsageError, match=r"fsseg\.apply_method does it"):
        api.adapter_of(network)
    api.apply_method(network, "lora", rank=2)
    with pytest.raises(UsageError, match=r"lora is already applied .*\n.*merge\(\)"):
        api.apply_method(network, "lora")
    adapter = api.adapter_of(network)
    adapter.save(tmp_path / "two")
    other = api.adapter_of(api.apply_method(made("sequential"), "lora", rank=1))
    with pytest.raises(UsageError, match=r"(?s)of another adaptation.*\"rank\": 2.*\"rank\": 1"):
        other.load(tmp_path / "two")
    with pytest.raises(FssegError, match="does not fit"):
        other.load_state_dict(adapter.state_dict())
    with pytest.raises(UsageError, match="not found"):
        other.load(tmp_path / "three")
    (tmp_path / "three").write_bytes(b"123")
    with pytest.raises(FssegError, match="damaged"):
        other.load(tmp_path / "three")
    assert adapter.report().as_dict()["layers"] == len(adapter.ranks()) == 3


def test_frozen_norms_keep_their_statistics_in_training_mode() -> None:
    network = api.apply_method(made("monai unet"), "lora", rank=2)
    before = copy.deepcopy(dict(network.named_buffers()))
    assert any("running_mean" in name for name in before)
    network.train()(NETWORKS["monai unet"][1])
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    api.adapter_of(network).merge()
    network.train()(NETWORKS["monai unet"][1])
    assert not all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
