"""Features on disk: shared where all that decides them is the same, bound in size, and without them the same result."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Lab, succeed
from safetensors.torch import load_file
from tiny import image, tiny_network
from torch import Tensor, nn

from fsseg.data.crops import CropSampler
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import ADAPTER_NAME
from fsseg.methods.registry import create_method
from fsseg.models.parts import parts_of
from fsseg.training import feature_cache, feature_store
from fsseg.training.crop_batches import Crops
from fsseg.training.feature_cache import cache_features
from fsseg.training.feature_pool import FeaturePool
from fsseg.training.feature_store import FEATURES_NAME, FeatureStore

CPU = torch.device("cpu")
COUNT = 4


def store_of(
    folder: Path, network: nn.Module | None = None, settings: Any = "", precision: Any = "auto"
) -> FeatureStore:
    return FeatureStore(folder, network or tiny_network("plain"), settings, precision)


def as_they_are(pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def crops(case: int = 0) -> Crops:
    """Return crops of a case of noise."""
    noise = np.random.default_rng(case).normal(size=(1, 48, 48, 48)).astype(np.float32)
    zones = np.ones(48, dtype=np.int16)
    volume = Volume("a", noise, np.zeros(noise.shape, np.int16), {}, zones, 0, np.ones((2, 1), bool))
    sampler = CropSampler([volume], (16,) * 3, crop_size=(16,) * 3, foreground_probability=0.0)
    return Crops(sampler, as_they_are, first=0, count=COUNT, seed=0)


def pool(network: nn.Module, store: FeatureStore | None, of: Crops | None = None) -> FeaturePool:
    options: dict[str, Any] = {"gib": 1.0, "device": CPU, "precision": "auto", "label": "test", "store": store}
    return cache_features(network, of or crops(), **options)


def features(of: FeaturePool) -> Tensor:
    return of.batch(range(COUNT))["image"]


def test_features_from_disk_are_the_same_bit_for_bit_and_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_network("plain")
    without = pool(network, None)
    made = pool(network, store_of(tmp_path, network))
    monkeypatch.setattr(feature_cache, "head_input", lambda *_: pytest.fail("computed"))
    found = pool(network, store_of(tmp_path, network))
    assert torch.equal(features(without), features(made))
    assert torch.equal(features(made), features(found))
    assert [p.report()["from_disk"] for p in (without, made, found)] == [0, 0, COUNT]


def test_methods_and_structures_share_features_but_not_what_decides_them(tmp_path: Path) -> None:
    crop = image()[0]
    base = store_of(tmp_path).entry(crop)
    adapted = AdaptedNetwork(tiny_network("plain"), create_method("spatial_adapter", {}), "frozen").network
    other_head = tiny_network("plain")
    for head in parts_of(other_head).heads:
        nn.init.ones_(head.weight)
    assert store_of(tmp_path, adapted).entry(crop) == store_of(tmp_path, other_head).entry(crop) == base
    others = [
        store_of(tmp_path).entry(crop + 1e-3),
        store_of(tmp_path, tiny_network("plain", seed=1)).entry(crop),
        store_of(tmp_path, settings="other windows").entry(crop),
        store_of(tmp_path, precision="bfloat16").entry(crop),
    ]
    assert len({base, *others}) == 5


def test_an_entry_that_is_damaged_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = tiny_network("plain")
    made = pool(network, store_of(tmp_path, network))
    entry = next(tmp_path.iterdir())
    entry.write_bytes(entry.read_bytes()[:100])
    again = pool(network, store_of(tmp_path, network))
    assert torch.equal(features(made), features(again))
    assert again.from_disk == COUNT - 1
    assert f"{entry} is damaged" in caplog.text


def test_the_entries_that_were_used_longest_ago_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network("plain")
    pool(network, store_of(tmp_path, network))
    first = {entry.name for entry in tmp_path.iterdir()}
    size = sum(entry.stat().st_size for entry in tmp_path.iterdir())
    monkeypatch.setattr(feature_store, "MOST_GIB", 1.5 * size / 2**30)
    pool(network, store_of(tmp_path, network), crops(case=1))
    kept = {entry.name for entry in tmp_path.iterdir()}
    assert len(kept) == 6
    assert len(kept & first) == 2


@pytest.mark.parametrize(
    ("limit", "said"), [("MOST_GIB", "kept up to"), ("FREE_GIB", "the disk has less than"), ("", "cannot be written")]
)
def test_what_finds_no_room_is_said_once_and_changes_nothing(
    limit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if limit:
        monkeypatch.setattr(feature_store, limit, {"MOST_GIB": 1e-6, "FREE_GIB": 1e9}[limit])
    else:
        (tmp_path / "cache").write_text("a file where the folder should be")
    network = tiny_network("plain")
    with caplog.at_level(logging.WARNING):
        made = pool(network, store_of(tmp_path / "cache", network))
    assert torch.equal(features(made), features(pool(network, None)))
    assert caplog.text.count(said) == 1
    assert not list(tmp_path.glob("cache/*"))


def test_two_processes_take_the_crops_in_orders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    for pid in (1, 2):
        monkeypatch.setattr(feature_cache, "os", SimpleNamespace(getpid=lambda pid=pid: pid))
        orders.append(feature_cache._own_order(20))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1, 20))


@pytest.mark.full
def test_a_second_method_finds_the_features_of_the_first_and_learns_the_same_as_without(
    site: Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "preprocessed" / FEATURES_NAME
    steps = ("--set", "recipe.max_steps=4", "--set", "recipe.feature_crops=4")

    def run(name: str, method: str) -> dict[str, Any]:
        return succeed(*site.adapt_words(tmp_path / name, *steps, method=method))

    run("first", "linear_probe")
    entries = len(list(folder.iterdir()))
    run("second", "spatial_adapter")
    assert len(list(folder.iterdir())) == entries
    for entry in folder.iterdir():
        entry.unlink()
    run("again", "spatial_adapter")
    second, again = (load_file(tmp_path / name / ADAPTER_NAME) for name in ("second", "again"))
    assert all(torch.equal(second[name], again[name]) for name in second)
