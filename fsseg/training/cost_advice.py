"""Whether a training fits into free memory, and what would take less: for adaptations and pretrainings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fsseg.config.base import Precision
from fsseg.config.errors import UsageError
from fsseg.training.cost import expected_step_mib
from fsseg.training.placement import computing_dtype, has_bfloat16

_LONG_HOURS = 12.0  # beyond which it is said what takes less


@dataclass(frozen=True)
class Demand:
    """Memory that a training takes, and that it may take, in MiB.

    Attributes:
        step_mib: what a step holds at its largest, with weights and optimiser.
        host_mib: of all on the host; on a CPU with the step.
        host_available_mib: what the host can give; None where that is not known.
        device_mib: of the CUDA device; None without one.
        device_available_mib: what the device can give.
    """

    step_mib: float
    host_mib: float
    host_available_mib: float | None
    device_mib: float | None = None
    device_available_mib: float | None = None

    def measured(self, peaks: dict[str, float]) -> "Demand":
        """Return what it comes to after steps that were taken: their peaks, where they are higher.

        Args:
            peaks: of this process, by host and device.
        """
        device = None if self.device_mib is None else max(self.device_mib, peaks.get("device", 0.0))
        return replace(self, host_mib=max(self.host_mib, peaks["host"]), device_mib=device)

    def shortages(self) -> list[str]:
        """Say where the memory is too small."""
        pairs = (
            ("host", self.host_mib, self.host_available_mib),
            ("CUDA device", self.device_mib, self.device_available_mib),
        )
        return [
            f"This training takes about {gib(needed)} of the {where}'s memory, but {gib(available)} are free for it."
            for where, needed, available in pairs
            if needed is not None and available is not None and needed > available
        ]

    def facts(self) -> dict[str, Any]:
        """Return the numbers as a report has them."""
        values = {
            "memory_mib": self.step_mib if self.device_mib is None else self.device_mib,
            "host_memory_mib": self.host_mib,
            "host_available_mib": self.host_available_mib,
            "device_available_mib": self.device_available_mib,
        }
        return {name: None if value is None else round(value, 1) for name, value in values.items()}


def gib(mib: float) -> str:
    """Return an amount of memory as text."""
    return f"{mib / 1024:.1f} GiB" if mib >= 100 else f"{mib:.0f} MiB"


@dataclass(frozen=True)
class Remedies:
    """What a user writes so that a step takes less; None where that is not possible.

    Attributes:
        checkpointing: checkpointed activations.
        bfloat16: numbers of half the size.
        single: a batch of one crop.
        smaller: a smaller patch, with {patch} for its extents.
    """

    checkpointing: str | None
    bfloat16: str
    single: str
    smaller: str


@dataclass(frozen=True)
class PlannedStep:
    """A step of a training, whose memory is counted without taking it.

    Attributes:
        network: in training mode, with what is trained requiring gradients; it is left as it is.
        channels: of the image.
        patch: voxels in z, y, x.
        batch: crops that one process takes.
        device: where it computes.
        precision: in which numbers.
        checkpointed: whether blocks keep their input only.
        compute_loss: see `expected_step_mib`.
    """

    network: nn.Module
    channels: int
    patch: Sequence[int]
    batch: int
    device: torch.device
    precision: Precision
    checkpointed: bool = False
    compute_loss: Callable[[Any], object] | None = None

    def mib(self) -> float:
        """Return about what the step will hold at its largest.

        Raises:
            UsageError: the patch is so small that a norm of the network would see one value alone.
        """
        try:
            return expected_step_mib(
                self.network,
                (self.batch, self.channels, *self.patch),
                dtype=computing_dtype(self.device, self.precision),
                checkpoint_activations=self.checkpointed,
                compute_loss=self.compute_loss,
            )
        except ValueError as error:
            if "Expected more than 1" not in str(error):  # torch's words
                raise
            raise UsageError(
                f"Patches of {list(self.patch)} are too small for this network: at its lowest level a norm sees one"
                " voxel alone.\n  Take plans with a larger patch; `fsseg import FILE --patch-size` gives a base one."
            ) from None

    def smaller_patch(self) -> list[int] | None:
        """Return a patch of about half the extents that the network reads, or None."""
        for multiple in (1, 8, 16, 32):
            half = [max(multiple, size // 2 // multiple * multiple) for size in self.patch]
            try:
                replace(self, patch=half, batch=1).mib()
            except (RuntimeError, ValueError, AssertionError, UsageError):
                continue
            return half if math.prod(half) < math.prod(self.patch) else None
        return None

    def less(self, remedies: Remedies) -> list[str]:
        """Return what takes less than this step, with the memory of a step, in a line each."""
        now, ways = self.mib(), []
        if remedies.checkpointing is not None and not self.checkpointed:
            ways.append((remedies.checkpointing, replace(self, checkpointed=True).mib()))
        if computing_dtype(self.device, self.precision) is torch.float32 and has_bfloat16(self.device):
            ways.append((f"{remedies.bfloat16}, in half the time or less", now / 2))
        if self.batch > 1:
            ways.append((remedies.single, replace(self, batch=1).mib()))
        smaller = self.smaller_patch()
        if smaller is not None:
            patch = " ".join(map(str, smaller))
            ways.append((remedies.smaller.format(patch=patch), replace(self, patch=smaller).mib()))
        return advice(now, ways)


def advice(step_mib: float, ways: Sequence[tuple[str, float]]) -> list[str]:
    """Return what takes less than a step of now, with the memory of a step; what saves little is left out.

    Args:
        step_mib: now.
        ways: what to write, and the memory of a step with it.
    """
    found = [f"  {way}: about {gib(mib)} a step" for way, mib in ways if mib < 0.9 * step_mib]
    return [f"A step takes about {gib(step_mib)}. Less takes:", *found] if found else []


def said(short: Sequence[str], less: Sequence[str], hours: float = 0.0) -> list[str]:
    """Return what a user should know of a training's cost: where memory is too small, and then, or if it is long, less.

    Args:
        short: where the memory is too small.
        less: what takes less.
        hours: that it takes in all.
    """
    return [*short, *(less if short or hours > _LONG_HOURS else [])]
