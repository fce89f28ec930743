"""The last features of a frozen network, computed once for a fixed pool of crops.

A method that trains nothing in front of the head sees the same features whenever it sees the same crop, and nearly all
the work of its step is to compute them. So the network runs once over crops 0 to N - 1, what goes into its head is
kept, and the batches of a training are drawn from that pool.
"""

import os
import random
import time

import torch
from torch import Tensor, nn

from fsseg.config.base import Precision
from fsseg.config.progress import Progress
from fsseg.models.parts import parts_of
from fsseg.training.crop_batches import Crops
from fsseg.training.feature_pool import FeaturePool, Sample, room_for
from fsseg.training.feature_store import FeatureStore
from fsseg.training.placement import mixed_precision, place


def cache_features(
    network: nn.Module,
    crops: Crops,
    *,
    gib: float,
    device: torch.device,
    precision: Precision,
    label: str,
    store: FeatureStore | None = None,
) -> FeaturePool:
    """Run a network once over all crops and keep what goes into its head.

    The features are those of a prediction: evaluation mode, one crop at a time, and in the precision in which the head
    meets them: float32, or under autocast whatever it makes of the layer in front of the head.

    Args:
        network: moved to `device`; nothing in front of its full-resolution head may be trained.
        crops: the pool.
        gib: bound on the memory, see `room_for`.
        device: where to compute.
        precision: in which the network computes.
        label: what the progress is called.
        store: features on disk, which are read in place of being computed, and added to.
    """
    started = time.perf_counter()
    place(network, device).eval()

    def sample(number: int) -> Sample:
        return _sample(network, crops[number], device, precision, store)

    first = sample(0)
    on_device, on_host = room_for(first, len(crops), gib=gib, device=device, crops_per_turn=crops.crops_per_turn)
    pool = FeaturePool(first, on_device=on_device, on_host=on_host, device=device)
    pool.put(0, first)
    with Progress(f"{label}, features", len(pool), "crop", done=1) as progress:
        for number in progress.over(_own_order(len(pool))):
            pool.put(number, sample(number))
    pool.seconds = time.perf_counter() - started
    pool.from_disk = 0 if store is None else store.found
    return pool


def head_input(network: nn.Module, image: Tensor) -> Tensor:
    """Return the input (B, features, D, H, W) of the full-resolution head, before any hook of a method on the head.

    Args:
        network: a segmentation network.
        image: (B, channels, D, H, W).
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = parts_of(network).head.register_forward_pre_hook(keep, prepend=True)
    try:
        network(image)
    finally:
        handle.remove()
    (features,) = seen
    return features


def _own_order(count: int) -> list[int]:
    """Return 1 to count - 1 in an order of this process: of two that share a store, each finds what the other made."""
    numbers = list(range(1, count))
    random.Random(os.getpid()).shuffle(numbers)
    return numbers


def _sample(
    network: nn.Module, crop: Sample, device: torch.device, precision: Precision, store: FeatureStore | None
) -> Sample:
    """Return a crop with its features in place of its image."""
    if store is None:
        return {**crop, "image": _features(network, crop["image"], device, precision)}
    entry = store.entry(crop["image"])
    features = store.read(entry)
    if features is None:
        features = _features(network, crop["image"], device, precision)
        store.write(entry, features)
    return {**crop, "image": features}


@torch.no_grad()
def _features(network: nn.Module, image: Tensor, device: torch.device, precision: Precision) -> Tensor:
    with mixed_precision(device, precision):
        return head_input(network, image[None].to(device))[0]
