"""A fixed pool of crops whose features are computed already, and the batches drawn from it."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fsseg.config.errors import UsageError
from fsseg.training.targets import TargetTable

logger = logging.getLogger(__name__)

GIB = 2**30
FEWEST_CROPS = 10  # a pool that the bound on memory makes smaller than this is refused

Sample = dict[str, Tensor]


class FeaturePool:
    """Features, labels and annotation of N crops, some in the memory of the device and the rest in that of the host.

    Args:
        first: crop 0; the others have the same shapes.
        on_device: how many crops lie on the device, from crop 0.
        on_host: how many crops follow on the host.
        device: where batches are needed.
    """

    def __init__(self, first: Sample, *, on_device: int, on_host: int, device: torch.device) -> None:
        self.crop_gib = _bytes(first) / GIB
        self.on_device = on_device
        self.on_host = on_host
        self.device = device
        self.seconds = 0.0
        self.from_disk = 0
        # Contiguous whatever the network's layout: on a CPU a linear head is four times faster than on channels-last
        # features, and a spatial adapter no slower.
        self._device_slabs = _slabs(first, on_device, device=device)
        self._host_slabs = _slabs(first, on_host, pin_memory=device.type == "cuda")

    def __len__(self) -> int:
        return self.on_device + self.on_host

    def put(self, number: int, crop: Sample) -> None:
        """Store a crop."""
        slabs, index = self._slot(number)
        for name, slab in slabs.items():
            slab[index].copy_(crop[name])

    def batch(self, numbers: Sequence[int]) -> Sample:
        """Return crops by number, on the device, as the training loop takes them.

        "image" (B, features, D, H, W) holds the features; labels (B, 2, D, H, W); zone_annotated (B, Z, C).
        """
        crops = [{name: slab[index] for name, slab in slabs.items()} for slabs, index in map(self._slot, numbers)]
        return {
            name: torch.stack([crop[name].to(self.device, non_blocking=True) for crop in crops]) for name in crops[0]
        }

    def batches(self, batch_size: int, seed: int, together: int = 1) -> Iterator[Sample]:
        """Yield batches without end; batch number i depends on the seed and i alone.

        The first pass takes the crops in order, as a training with the network in the loop does; every further pass
        takes each crop once in a new order, in which `together` consecutive crops stay so.
        """
        numbers = _passes(len(self), seed, together)
        while True:
            yield self.batch([next(numbers) for _ in range(batch_size)])

    def labelled(self, table: TargetTable) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield every crop once, in order: features (1, features, D, H, W) in float32, target and validity.

        The latter two are (1, C, D, H, W) bool, as `table` expands them.
        """
        for number in range(len(self)):
            crop = self.batch([number])
            yield crop["image"].float(), *table.expand(crop["labels"], crop["zone_annotated"])

    def report(self) -> dict[str, float]:
        """Return size and cost of the pool, for the manifest: crops that were read from disk cost next to nothing."""
        return {
            "crops": len(self),
            "device_gib": round(self.on_device * self.crop_gib, 4),
            "host_gib": round(self.on_host * self.crop_gib, 4),
            "seconds": round(self.seconds, 2),
            "from_disk": self.from_disk,
        }

    def _slot(self, number: int) -> tuple[Sample, int]:
        if number < self.on_device:
            return self._device_slabs, number
        return self._host_slabs, number - self.on_device


def room_for(crop: Sample, count: int, *, gib: float, device: torch.device, crops_per_turn: int = 1) -> tuple[int, int]:
    """Return how many of `count` crops to keep on the device and how many on the host.

    Args:
        crop: one of the crops, which all have the same shapes.
        count: number of crops wanted.
        gib: what they may take of a CUDA device's memory, and as much again of the host's; without CUDA of the host's
            only. If that is too little, there are fewer crops, and a warning says so.
        device: where to train.
        crops_per_turn: where cases have turns, how many crops one turn of all makes; only whole turns are kept, so
            that every case has as many crops.

    Raises:
        UsageError: not even `FEWEST_CROPS` of the crops wanted would fit, or not a round of them.
    """
    fitting = int(gib * GIB // _bytes(crop))
    on_device = min(count, fitting) if device.type == "cuda" else 0
    held = on_device + min(count - on_device, fitting)
    kept = held
    if held < count:
        kept -= held % crops_per_turn
        needed = min(count, max(FEWEST_CROPS, crops_per_turn))
        found = (
            f"The features of one crop take {_bytes(crop) / GIB:.3g} GiB, so recipe.feature_cache_gib={gib:g} holds"
            f" {held} of {count} crops."
        )
        if kept < needed:
            raise UsageError(f"{found}\n  At least {needed} are needed: raise it.")
        as_many = f" {kept}, as many of each case," if kept < held else " these"
        logger.warning("%s Only%s are trained on.", found, as_many)
    on_device = min(on_device, kept)
    return on_device, kept - on_device


def _bytes(sample: Sample) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in sample.values())


def _slabs(crop: Sample, count: int, **memory: object) -> Sample:
    """Return uninitialised tensors for `count` crops; one block each, because pinned blocks are rounded up in size."""
    return {
        name: torch.empty((count, *tensor.shape), dtype=tensor.dtype, **memory)  # type: ignore[call-overload]
        for name, tensor in crop.items()
    }


def _passes(count: int, seed: int, together: int) -> Iterator[int]:
    """Yield 0 to count - 1 in order, then again and again in an order that depends on the seed and the pass."""
    yield from range(count)
    starts = range(0, count, together)
    number = 1
    while True:
        for block in np.random.default_rng((seed, number)).permutation(len(starts)).tolist():
            yield from range(starts[block], min(starts[block] + together, count))
        number += 1
