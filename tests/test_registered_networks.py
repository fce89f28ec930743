"""Network classes of others: named in plans after they are registered, and adapted as fsseg's own."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fsseg as api
from fsseg.config import entry_points
from fsseg.config.errors import UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import create_method
from fsseg.models import registration
from fsseg.models.heads import replace_heads
from fsseg.models.networks import build_network, total_strides
from fsseg.models.parts import parts_of


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class OwnNetwork(nn.Module):
    """One level down and up again."""

    supports_deep_supervision = False

    def __init__(
        self, input_channels: int, num_classes: int, *, width: int = 4, deep_supervision: bool = False
    ) -> None:
        super().__init__()
        self.stem = Block(input_channels, width)
        self.down = nn.Conv3d(width, width, 2, stride=2)
        self.up = nn.ConvTranspose3d(width, width, 2, stride=2)
        self.out = nn.ModuleList([nn.Conv3d(width, num_classes, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.out[-1](self.up(self.down(self.stem(x))))

    @staticmethod
    def total_stride(arguments: Any) -> int:
        return 2


PARTS = api.NetworkParts(encoder=("stem", "down"), decoder=("up",), head="out")
BLOCK = {
    "network_class_name": f"{__name__}.OwnNetwork",
    "arch_kwargs": {"width": 8},
    "_kw_requires_import": [],
}


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registration, "_registered", {})
    entry_points.run_entry_points.cache_clear()
    yield
    entry_points.run_entry_points.cache_clear()


def build(**changes: Any) -> nn.Module:
    block = {**BLOCK, **changes}
    return build_network(block, input_channels=1, output_channels=3, deep_supervision=False)


def test_plans_name_a_class_only_after_it_is_registered() -> None:
    with pytest.raises(UsageError, match=r"(?s)Unknown network class .*after fsseg\.register_network") as refusal:
        build()
    assert "OwnNetwork" not in str(refusal.value).partition("allowed:")[2]
    with pytest.raises(UsageError, match=r"OwnNetwork cannot be adapted"):
        parts_of(OwnNetwork(1, 1))
    api.register_network(OwnNetwork, PARTS)
    network = build()
    assert isinstance(network, OwnNetwork)
    assert network.down.out_channels == 8
    assert total_strides(BLOCK) == [2, 2, 2]
    with pytest.raises(UsageError, match="Unknown network class"):
        build(network_class_name="os.system")


@pytest.mark.parametrize("method", ["lora", "decoder", "adaptformer", "affine"])
def test_methods_adapt_a_registered_network(method: str) -> None:
    api.register_network(OwnNetwork, PARTS, blocks=(Block,))
    network = build()
    replace_heads(network, [0, 0.1])
    if method == "affine":
        with pytest.raises(UsageError, match="norms have no affine parameters"):
            AdaptedNetwork(network, create_method(method))
        return
    plain = copy.deepcopy(network)
    adapted = AdaptedNetwork(network, create_method(method))
    image = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(network(image), plain(image))
    assert network(image).shape == (1, 2, 8, 8, 8)
    names = set(adapted.trainable())
    assert {"out.0.weight", "out.0.bias"} <= names
    found = {"lora": "stem.conv.parametrizations.weight.0.left", "decoder": "up.weight"}
    assert found.get(method, "stem.adaptformer.down.weight") in names


def test_all_that_is_missing_is_said_at_once() -> None:
    class Bare(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()

    with pytest.raises(UsageError) as refusal:
        api.register_network(Bare, api.NetworkParts(encoder=("stem",)), blocks=(nn.Sequential, int))  # type: ignore[arg-type]
    for part in (
        "6 errors in network Bare",
        "no argument input_channels, num_classes, deep_supervision",
        "no attribute supports_deep_supervision",
        "no static method total_stride",
        "name no decoder, head",
        "int'> is no class of modules",
        "Sequential is a subclass of nn.Sequential",
    ):
        assert part in str(refusal.value)
    with pytest.raises(UsageError, match=r"no subclass of torch\.nn\.Module"):
        api.register_network("Bare", PARTS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no fsseg\.NetworkParts"):
        api.register_network(OwnNetwork, {"encoder": "stem"})  # type: ignore[arg-type]
    assert not registration._registered


def test_parts_that_the_network_lacks_are_named_with_the_nearest() -> None:
    api.register_network(OwnNetwork, api.NetworkParts(encoder=("stern",), decoder=("up",), head="out"))
    with pytest.raises(UsageError, match=r"no submodule 'stern'\. Did you mean 'stem'\?\n.*stem, down, up, out"):
        parts_of(build())
    api.register_network(OwnNetwork, api.NetworkParts(encoder=("stem",), decoder=("down",), head="up"))
    with pytest.raises(UsageError, match=r"head 'up' of OwnNetwork cannot be replaced"):
        replace_heads(build(), [0.1])


def test_networks_of_installed_packages_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network_plugin_of_a_test.py").write_text(
        f"import fsseg, {__name__} as mine\ndef register():\n    fsseg.register_network(mine.OwnNetwork, mine.PARTS)\n",
        encoding="utf-8",
    )
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[fsseg.networks]\nmine = network_plugin_of_a_test:register\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(build(), OwnNetwork)
