"""Features computed once: the same training as with the network in the loop, within a bound on memory."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed
from tiny import ARCHITECTURES, SMOKE_ARCHITECTURES, STRUCTURES, image, image_for, tiny_network
from torch import Tensor, nn
from torch.nn import functional as F

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import Rates
from fsseg.data.crops import CropSampler
from fsseg.data.structures import CaseAnnotation, Structures
from fsseg.data.volumes import Volume, annotation_zones, foreground_locations
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import create_method
from fsseg.models.parts import parts_of
from fsseg.training.crop_batches import Crops, batches
from fsseg.training.feature_cache import cache_features, head_input
from fsseg.training.feature_pool import FEWEST_CROPS, GIB, FeaturePool, room_for
from fsseg.training.fit import FitResult, fit
from fsseg.training.losses import MaskedLoss, mean_bce_dice
from fsseg.training.plan import Inputs, TrainingPlan
from fsseg.training.schedule import PlateauRule, WarmupStableDecay
from fsseg.training.targets import TargetTable

CPU = torch.device("cpu")
PATCH = (16, 16, 16)
NAMES = ("one", "two", "three")
STRUCTURES_OF_CASES = Structures(
    integers={name: (integer,) for integer, name in enumerate(NAMES, start=1)},
    cases={
        "whole": CaseAnnotation(source="a", annotated=NAMES),
        "partial": CaseAnnotation(source="b", annotated=NAMES[:2], z_extent={"two": (4, 15)}),
    },
)
TABLE = TargetTable(torch.from_numpy(STRUCTURES_OF_CASES.table()))
POOL = 6
LOSS = MaskedLoss(mean_bce_dice)


def volume(case: str, seed: int) -> Volume:
    """Return a case with noise for an image, and a bright ball of every structure."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"), axis=-1)
    labels = np.zeros((20, 20, 20), dtype=np.int16)
    for integer in range(1, STRUCTURES + 1):
        centre = generator.integers(5, 15, size=3)
        labels[((grid - centre) ** 2).sum(-1) < 12] = integer
    pixels = generator.normal(size=labels.shape) + 2.0 * labels
    annotation = STRUCTURES_OF_CASES.annotation(case)
    zones, annotated = annotation_zones(annotation, NAMES, np.arange(20))
    locations = foreground_locations(labels, STRUCTURES_OF_CASES, annotation.annotated)
    return Volume(case, pixels[None].astype(np.float32), labels[None], locations, zones, 0, annotated)


def brightened(pixels: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Augment with the global generators, as the real augmentation does."""
    return torch.from_numpy(pixels) + 0.3 * torch.randn(1), torch.from_numpy(labels)


def crops(count: int = POOL, seed: int = 0) -> Crops:
    volumes = [volume("whole", 0), volume("partial", 1)]
    sampler = CropSampler(volumes, PATCH, crop_size=PATCH, foreground_probability=0.67)
    return Crops(sampler, brightened, first=0, count=count, seed=seed)


def adapt(method: str, network: str = "plain", **options: Any) -> AdaptedNetwork:
    torch.manual_seed(0)
    return AdaptedNetwork(tiny_network(network), create_method(method, options), "frozen")


def pool_of(adapted: AdaptedNetwork, of: Crops, device: torch.device = CPU, gib: float = 1.0) -> FeaturePool:
    return cache_features(adapted.network, of, gib=gib, device=device, precision="auto", label="test")


def head_of(adapted: AdaptedNetwork) -> nn.Conv3d:
    return parts_of(adapted.network).head


def train(
    adapted: AdaptedNetwork,
    forward: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    device: torch.device = CPU,
    steps: int = 8,
) -> FitResult:
    """Train; in eight steps on two crops each, a pool of six crops is seen two and a half times."""
    groups = adapted.parameter_groups(Rates(1e-2, 1e-2, 1e-2))
    schedule = WarmupStableDecay(steps, PlateauRule(), warmup_steps=2)
    return fit(
        adapted, Inputs(forward, lambda _: batches, TABLE), TrainingPlan(groups, schedule, LOSS, 0.0, device, "auto", 0)
    )


def train_cached(adapted: AdaptedNetwork, seed: int = 0, device: torch.device = CPU) -> FitResult:
    return train(adapted, head_of(adapted), pool_of(adapted, crops(seed=seed), device).batches(2, seed), device)


def images_in_the_order_of(pool: FeaturePool, of: Crops, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield the batches that `pool` yields, with images in place of features."""
    numbered = {"image": torch.zeros(1), "labels": torch.zeros(1), "zone_annotated": torch.zeros(1)}
    numbers = FeaturePool(numbered, on_device=0, on_host=len(pool), device=CPU)
    for number in range(len(numbers)):
        numbers.put(number, {name: torch.tensor([float(number)]) for name in numbered})
    for batch in numbers.batches(2, seed):
        chosen = [of[int(number)] for number in batch["image"]]
        yield {name: torch.stack([crop[name] for crop in chosen]) for name in chosen[0]}


# --- what is kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [*ARCHITECTURES, *SMOKE_ARCHITECTURES])
@torch.no_grad()
def test_head_on_its_input_gives_the_logits_of_the_network(network: str) -> None:
    model = tiny_network(network)
    pixels = image_for(model)
    features = head_input(model, pixels)
    assert torch.equal(parts_of(model).head(features), model(pixels))
    assert not parts_of(model).head._forward_pre_hooks


@pytest.mark.parametrize(("method", "options"), [("spatial_adapter", {}), ("prototype", {"similarity": "cosine"})])
@torch.no_grad()
def test_features_are_those_in_front_of_what_a_method_puts_before_the_head(method: str, options: dict) -> None:
    adapted = adapt(method, **options)
    for parameter in adapted.trainable().values():
        parameter.normal_()
    features = head_input(adapted.network, image())
    assert torch.equal(features, head_input(tiny_network("plain"), image()))
    assert torch.equal(head_of(adapted)(features), adapted.network(image()))


@pytest.mark.parametrize("network", ["plain", "plain_batch_norm"])
def test_pool_holds_every_crop_with_labels_and_annotation(network: str) -> None:
    adapted = adapt("linear_probe", network)
    before = deepcopy(adapted.network.state_dict())
    pool = pool_of(adapted, crops())
    assert len(pool) == POOL
    assert pool.seconds > 0
    for number in range(POOL):
        crop, cached = crops()[number], pool.batch([number])
        expected = head_input(adapted.network, crop["image"][None])
        torch.testing.assert_close(cached["image"], expected, rtol=1e-5, atol=1e-5)
        assert cached["image"].dtype == torch.float32
        assert not cached["image"].requires_grad
        assert torch.equal(cached["labels"][0], crop["labels"])
        assert torch.equal(cached["zone_annotated"][0], crop["zone_annotated"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.network.state_dict().items())


def test_every_pass_takes_each_crop_once_and_the_first_in_order() -> None:
    pool = pool_of(adapt("linear_probe"), crops())
    flat = torch.cat([batch["image"][:, 0, 0, 0, 0] for batch in islice(pool.batches(4, seed=3), 9)])
    one_pass = pool.batch(range(POOL))["image"][:, 0, 0, 0, 0]
    assert torch.equal(flat[:POOL], one_pass)
    passes = flat.view(-1, POOL)
    assert torch.equal(passes.sort(1).values, one_pass.sort().values.expand(6, -1))
    assert len({tuple(order.tolist()) for order in passes}) > 3


def test_crops_of_a_turn_stay_together_in_every_pass() -> None:
    pool = pool_of(adapt("linear_probe"), crops(7))
    marks = pool.batch(range(7))["image"][:, 0, 0, 0, 0].tolist()
    seen = torch.cat([batch["image"][:, 0, 0, 0, 0] for batch in islice(pool.batches(1, 3, together=3), 7 * 6)])
    numbers = [marks.index(mark) for mark in seen.tolist()]
    turns = {(0, 1, 2), (3, 4, 5), (6,)}
    orders = set()
    for start in range(0, len(numbers), 7):
        left, order = numbers[start : start + 7], []
        while left:
            turn = next(turn for turn in turns if turn[0] == left[0])
            assert tuple(left[: len(turn)]) == turn
            order.append(turn)
            left = left[len(turn) :]
        assert set(order) == turns
        orders.add(tuple(order))
    assert len(orders) > 2


_ORDER = """
from itertools import islice
import torch
from fsseg.training.feature_pool import FeaturePool
pool = FeaturePool({"image": torch.zeros(1)}, on_device=0, on_host=7, device=torch.device("cpu"))
for number in range(7):
    pool.put(number, {"image": torch.tensor([float(number)])})
order = [[batch["image"].flatten().tolist() for batch in islice(pool.batches(3, seed), 8)] for seed in (5, 6)]
"""


def test_batch_order_depends_on_the_seed_alone() -> None:
    here: dict[str, Any] = {}
    exec(_ORDER, here)
    assert here["order"][0] != here["order"][1]
    command = [sys.executable, "-c", _ORDER + "print(order)"]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    there = subprocess.run(command, env=environment, check=True, capture_output=True, encoding="utf-8").stdout
    assert json.loads(there) == here["order"]


# --- the same training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["plain", "residual", "plain_batch_norm"])
@pytest.mark.parametrize("method", ["linear_probe", "spatial_adapter"])
def test_cached_training_is_the_training_with_the_network_in_the_loop(method: str, network: str) -> None:
    cached, in_loop = adapt(method, network), adapt(method, network)
    pool = pool_of(cached, crops())
    cached_result = train(cached, head_of(cached), pool.batches(2, seed=4))
    loop_result = train(in_loop, in_loop.network, images_in_the_order_of(pool, crops(), seed=4))
    assert len(cached_result.losses) == 8
    torch.testing.assert_close(cached_result.losses, loop_result.losses, rtol=1e-5, atol=1e-5)
    start = adapt(method, network).state()
    for name, expected in in_loop.state().items():
        assert (expected - start[name]).abs().max() > 1e-3, f"{name} was hardly trained"
        torch.testing.assert_close(cached.state()[name], expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(cached.network(image()), in_loop.network(image()), rtol=1e-3, atol=1e-3)


def test_network_runs_once_a_crop_and_not_in_a_step() -> None:
    adapted = adapt("spatial_adapter")
    calls: list[int] = []
    parts_of(adapted.network).encoder.register_forward_hook(lambda *_: calls.append(1))
    pool = pool_of(adapted, crops())
    assert len(calls) == POOL
    train(adapted, head_of(adapted), pool.batches(2, seed=0))
    assert len(calls) == POOL


def test_seed_decides_the_cached_training() -> None:
    runs = [adapt("spatial_adapter") for _ in range(3)]
    results = [train_cached(adapted, seed) for adapted, seed in zip(runs, (1, 1, 2), strict=True)]
    assert results[0].losses == results[1].losses != results[2].losses
    assert all(torch.equal(tensor, runs[1].state()[name]) for name, tensor in runs[0].state().items())


# --- the bound on memory ----------------------------------------------------------------------------------------

CUDA = torch.device("cuda")
CROP = {"image": torch.zeros(2, 8, 8, 8), "labels": torch.zeros(2, 8, 8, 8, dtype=torch.int16)}
CROP_GIB = (2 * 512 * 4 + 2 * 512 * 2) / GIB


@pytest.mark.parametrize(
    ("device", "count", "holds", "expected"),
    [
        (CPU, 20, 30, (0, 20)),
        (CPU, 20, 20, (0, 20)),
        (CPU, 20, 12, (0, 12)),
        (CUDA, 20, 30, (20, 0)),
        (CUDA, 20, 12, (12, 8)),
        (CUDA, 40, 12, (12, 12)),
    ],
)
def test_crops_lie_on_the_device_then_on_the_host_and_no_more_than_fit(
    device: torch.device, count: int, holds: int, expected: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert room_for(CROP, count, gib=(holds + 0.5) * CROP_GIB, device=device) == expected
    loud = [record.getMessage() for record in caplog.records]
    if sum(expected) == count:
        assert loud == []
    else:
        assert len(loud) == 1
        assert f"holds {sum(expected)} of {count} crops" in loud[0]
        assert "feature_cache_gib" in loud[0]


@pytest.mark.parametrize(("device", "expected"), [(CPU, (0, 30)), (CUDA, (49, 41))])
def test_where_cases_have_turns_only_whole_rounds_are_kept(
    device: torch.device, expected: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    gib = 49.5 * CROP_GIB
    assert room_for(CROP, 120, gib=gib, device=device, crops_per_turn=30) == expected
    (record,) = caplog.records
    assert f"Only {sum(expected)}, as many of each case, are trained on" in record.getMessage()
    with pytest.raises(UsageError, match=r"holds 49 of 120 crops.*\n.*At least 60 "):
        room_for(CROP, 120, gib=gib, device=CPU, crops_per_turn=60)


@pytest.mark.parametrize(("count", "holds"), [(20, FEWEST_CROPS - 1), (20, 0), (5, 4)])
def test_a_bound_that_leaves_hardly_any_crops_is_refused(count: int, holds: int) -> None:
    with pytest.raises(UsageError, match=f"holds {holds} of {count} crops.*\n.*At least {min(count, FEWEST_CROPS)} "):
        room_for(CROP, count, gib=(holds + 0.5) * CROP_GIB, device=CPU)


def test_a_pool_within_its_bound_is_smaller_and_trains(caplog: pytest.LogCaptureFixture) -> None:
    adapted = adapt("linear_probe")
    crop_gib = pool_of(adapted, crops(1)).crop_gib
    pool = pool_of(adapted, crops(20), gib=12.5 * crop_gib)
    assert len(pool) == 12
    assert "holds 12 of 20 crops" in caplog.text
    assert pool.report()["crops"] == 12
    assert pool.report()["host_gib"] == pytest.approx(12 * crop_gib, abs=1e-4)
    assert len(train(adapted, head_of(adapted), pool.batches(2, seed=0)).losses) == 8


def test_spilled_crops_come_back_as_the_others() -> None:
    """Both memories are the host's here; `test_spilled_crops_on_a_gpu` has a device."""
    adapted = adapt("linear_probe")
    whole = pool_of(adapted, crops())
    split = FeaturePool(
        {name: tensor[0] for name, tensor in whole.batch([0]).items()}, on_device=2, on_host=4, device=CPU
    )
    for number in range(POOL):
        split.put(number, {name: tensor[0] for name, tensor in whole.batch([number]).items()})
    for one, other in islice(zip(whole.batches(4, 1), split.batches(4, 1), strict=True), 6):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.gpu
def test_spilled_crops_on_a_gpu() -> None:
    adapted = adapt("spatial_adapter")
    crop_gib = pool_of(adapted, crops(1), CUDA).crop_gib
    whole, split = (pool_of(adapted, crops(12), CUDA, gib=(holds + 0.5) * crop_gib) for holds in (12, 6))
    assert (whole.on_device, whole.on_host) == (12, 0)
    assert (split.on_device, split.on_host) == (6, 6)
    for one, other in islice(zip(whole.batches(4, 1), split.batches(4, 1), strict=True), 6):
        assert other["image"].is_cuda
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["linear_probe", "spatial_adapter"])
def test_cached_training_on_a_gpu_is_the_training_with_the_network_in_the_loop(method: str) -> None:
    cached, in_loop = adapt(method), adapt(method)
    pool = pool_of(cached, crops(), CUDA)
    cached_result = train(cached, head_of(cached), pool.batches(2, seed=4), CUDA)
    loop_result = train(in_loop, in_loop.network, images_in_the_order_of(pool, crops(), seed=4), CUDA)
    torch.testing.assert_close(cached_result.losses, loop_result.losses, rtol=1e-2, atol=1e-2)


# --- prototypes -------------------------------------------------------------------------------------------------

Labelled = tuple[Tensor, Tensor, Tensor]


def labelled_crops(count: int = 5, features: int = 4, size: int = 6) -> list[Labelled]:
    """Return crops in which the features of a structure are shifted, and where some voxels are not annotated."""
    generator = torch.Generator().manual_seed(0)
    shift = torch.randn(STRUCTURES, features, generator=generator)
    made = []
    for _ in range(count):
        target = torch.rand(1, STRUCTURES, size, size, size, generator=generator) < 0.2
        valid = torch.rand(target.shape, generator=generator) < 0.7
        noise = torch.randn(1, features, size, size, size, generator=generator) + 1
        made.append((noise + torch.einsum("bcdhw,cf->bfdhw", target.float(), shift), target, valid))
    return made


def solved(made: list[Labelled], **options: Any) -> AdaptedNetwork:
    adapted = adapt("prototype", **options)
    adapted.method.fit_closed_form(head_of(adapted), lambda: iter(made), NAMES)
    return adapted


def as_rows(made: list[Labelled]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (voxels, features), target and validity (voxels, C)."""
    return tuple(np.concatenate([t.movedim(1, -1).flatten(0, -2).numpy() for t in kind]) for kind in zip(*made))  # noqa: B905


def dice_of(prediction: np.ndarray, target: np.ndarray) -> float:
    return 2 * (prediction & target).sum() / (prediction.sum() + target.sum())


def best_dice(score: np.ndarray, target: np.ndarray) -> float:
    """Return the highest Dice over all thresholds."""
    hits = np.cumsum(target[np.argsort(-score)])
    return float((2 * hits / (np.arange(1, len(hits) + 1) + target.sum())).max())


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def euclidean(features: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    return ((features - outside) ** 2).sum(-1) - ((features - inside) ** 2).sum(-1)


def cosine(features: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    return 20 * (unit(features) @ unit(inside) - unit(features) @ unit(outside))


@pytest.mark.parametrize("score", [euclidean, cosine])
@torch.no_grad()
def test_prototype_logits_are_their_closed_form_up_to_the_best_threshold(score: Callable) -> None:
    made = labelled_crops()
    head = head_of(solved(made, similarity=score.__name__))
    logits = np.concatenate([head(f).movedim(1, -1).flatten(0, -2).numpy() for f, _, _ in made])
    features, target, valid = as_rows(made)
    for channel in range(STRUCTURES):
        known, shown = valid[:, channel], target[:, channel]
        inside, outside = features[known & shown].mean(0), features[known & ~shown].mean(0)
        expected = score(features, inside, outside)
        threshold = expected - logits[:, channel]
        assert np.ptp(threshold) < 1e-4
        assert -score(inside, inside, outside) <= threshold.mean() <= 2 * score(inside, inside, outside)
        reached = dice_of(logits[known, channel] > 0, shown[known])
        assert reached >= best_dice(expected[known], shown[known]) - 0.005
        assert reached > dice_of(expected[known] > 0, shown[known]) - 0.005


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_voxels_that_are_not_annotated_do_not_count(similarity: str) -> None:
    made = labelled_crops()
    one_valid = [(f, t, v.all(1, keepdim=True).expand_as(v)) for f, t, v in made]
    changed = [(torch.where(v[:, :1], f, 100 * torch.randn_like(f)), t ^ ~v, v) for f, t, v in one_valid]
    first, second = (head_of(solved(some, similarity=similarity)) for some in (one_valid, changed))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)


def test_a_structure_without_voxels_is_named() -> None:
    made = [(f, t & (torch.arange(STRUCTURES) != 1).view(1, -1, 1, 1, 1), v) for f, t, v in labelled_crops()]
    with pytest.raises(FssegError, match=r"5 cached crops show no voxel of, .*: two\n.*feature_crops"):
        solved(made)
    full = [(f, t, v & (t | (torch.arange(STRUCTURES) != 2).view(1, -1, 1, 1, 1))) for f, t, v in labelled_crops()]
    with pytest.raises(FssegError, match="or no annotated voxel besides: three"):
        solved(full)


@torch.no_grad()
def test_euclidean_prototypes_merge_exactly_and_cosine_ones_refuse() -> None:
    adapted = solved(labelled_crops())
    plain = tiny_network("plain", seed=5)
    plain.load_state_dict(adapted.merged_state_dict())
    assert torch.equal(plain(image()), adapted.network(image()))
    other = solved(labelled_crops(), similarity="cosine")
    with pytest.raises(UsageError, match=r"cannot be merged.*length.*similarity=euclidean merges"):
        other.merged_state_dict()


@cache
def pretrained() -> nn.Module:
    """Return a network that has learned the bright balls a little."""
    torch.manual_seed(0)
    full = AdaptedNetwork(tiny_network("plain"), create_method("full"))
    train(full, full.network, batches(crops(120), 2, 0, pin_memory=False), steps=60)
    return full.network


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
@torch.no_grad()
def test_prototypes_find_an_easy_structure_in_other_cases(similarity: str) -> None:
    with torch.enable_grad():
        network = deepcopy(pretrained())
    adapted = AdaptedNetwork(network, create_method("prototype", {"similarity": similarity}))
    adapted.method.fit_closed_form(head_of(adapted), partial(pool_of(adapted, crops(30)).labelled, TABLE), NAMES)
    for seed in (7, 8, 9):
        other = volume("whole", seed)
        pixels, brightest = torch.from_numpy(other.image[None, ..., :16, :16, :16]), other.labels[0, :16, :16, :16] == 3
        prediction = adapted.network(pixels)[0, 2].numpy() > 0
        assert dice_of(prediction, brightest) > 0.5


@torch.no_grad()
def test_cosine_prototypes_do_not_see_the_length_of_a_feature() -> None:
    head = head_of(solved(labelled_crops(), similarity="cosine"))
    features = torch.randn(1, 4, 3, 3, 3)
    torch.testing.assert_close(head(5 * features), head(features), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(head(-features), head(features))


# --- the spatial adapter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [1, 3])
@torch.no_grad()
def test_spatial_adapter_is_its_formula(kernel_size: int) -> None:
    adapted = adapt("spatial_adapter", kernel_size=kernel_size)
    for parameter in adapted.trainable().values():
        parameter.normal_()
    own = {name.rsplit(".", 2)[1]: p for name, p in adapted.trainable().items() if "spatial_adapter" in name}
    assert [own[name].shape for name in ("first", "second")] == [(4, 4, *[kernel_size] * 3)] * 2
    z = head_input(adapted.network, image())
    padding = kernel_size // 2
    hidden = F.relu(F.conv3d(z, own["first"], padding=padding))
    head = head_of(adapted)
    expected = F.conv3d(z + F.conv3d(hidden, own["second"], padding=padding), head.weight, head.bias)
    torch.testing.assert_close(adapted.network(image()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "kernel_size", "count"), [(48, 3, 124_416), (48, 1, 4_608), (32, 3, 55_296)])
def test_spatial_adapter_has_the_published_number_of_parameters(channels: int, kernel_size: int, count: int) -> None:
    network = tiny_network("plain")
    heads = parts_of(network).heads
    heads[-1] = nn.Conv3d(channels, 1, 1)
    report = AdaptedNetwork(network, create_method("spatial_adapter", {"kernel_size": kernel_size})).report()
    assert (report.trainable, report.head, report.layers) == (count, channels + 1, 1)


def test_spatial_adapter_says_why_it_does_not_merge() -> None:
    with pytest.raises(UsageError, match=r"cannot be merged.*ReLU"):
        adapt("spatial_adapter").merged_state_dict()


# --- through the command line -----------------------------------------------------------------------------------


def run_of(lab: Lab, out: Path, method: str, *words: object) -> dict[str, Any]:
    return succeed(*lab.adapt_words(out, *words, method=method))


@pytest.mark.parametrize("method", ["linear_probe", "spatial_adapter"])
def test_manifest_says_what_was_cached(lab: Lab, tmp_path: Path, method: str) -> None:
    settings = ("--set", "recipe.max_steps=8", "recipe.feature_crops=5")
    first, second = (run_of(lab, tmp_path / name, method, *settings) for name in ("first", "second"))
    assert first["steps"] == 8
    assert first["feature_cache"]["crops"] == 5
    assert 0 < first["feature_cache"]["seconds"] <= first["fit_seconds"]
    assert first["feature_cache"]["host_gib"] > 0
    assert first["config"]["recipe"]["feature_crops"] == 5
    assert first["loss"] == second["loss"]
    assert first["merged"] == (method == "linear_probe")


def test_no_more_crops_are_cached_than_the_steps_take(lab: Lab, tmp_path: Path) -> None:
    manifest = run_of(lab, tmp_path / "run", "linear_probe", "--set", "recipe.max_steps=3")
    assert manifest["feature_cache"]["crops"] == 3 * 2
    assert run_of(lab, tmp_path / "loop", "decoder")["feature_cache"] is None


def test_prototypes_take_no_step(lab: Lab, tmp_path: Path) -> None:
    words = ("--shots", 3, "--estimate", "loo", "--set", "recipe.feature_crops=40")
    manifest = run_of(lab, tmp_path / "run", "prototype", *words)
    assert (manifest["steps"], manifest["loss"], manifest["plateau"]) == (0, None, False)
    assert (manifest["feature_cache"]["crops"], manifest["merged"]) == (40, True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8") == ""
    estimate = json.loads((tmp_path / "run" / "estimate.json").read_text(encoding="utf-8"))
    assert all(0 <= score <= 1 for name in (NOVEL, KNOWN) for score in estimate[name]["cases"].values())
    assert estimate[KNOWN]["mean"] > 0.1


def test_a_cache_that_cannot_hold_enough_crops_is_refused(lab: Lab, tmp_path: Path) -> None:
    words = ("--set", "recipe.max_steps=50", "recipe.feature_cache_gib=0.0001")
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", *words, method="linear_probe"))
    assert outcome.code == 2
    assert "recipe.feature_cache_gib=0.0001 holds" in outcome.err
    assert not (tmp_path / "run").exists()
