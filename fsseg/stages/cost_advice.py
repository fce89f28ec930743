"""Whether a training fits into free memory, and what would take less: for adaptations and pretrainings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fsseg.training.placement import has_bfloat16


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


def advice(
    *,
    step_mib: float,
    checkpointed_mib: float | None,
    single_mib: float | None,
    dtype: torch.dtype,
    device: torch.device,
    smaller: Sequence[int] | None,
    smaller_mib: float | None,
) -> list[str]:
    """Return what takes less than a step of now, with the memory of a step; what saves little is left out.

    Args:
        step_mib: now.
        checkpointed_mib: with checkpointed activations; None where that is not possible.
        single_mib: with a batch of one; None where it is one.
        dtype: in which it computes now.
        device: where.
        smaller: a smaller patch; None if there is none.
        smaller_mib: with it.
    """
    ways = [("--set recipe.checkpoint_activations=true", checkpointed_mib)]
    if dtype is torch.float32 and has_bfloat16(device):
        ways.append(("--set recipe.precision=bfloat16, in half the time or less", step_mib / 2))
    ways.append(("--set recipe.batch_size=1", single_mib))
    if smaller is not None:
        ways.append(
            (f"a base with a smaller patch: fsseg import ... --patch-size {' '.join(map(str, smaller))}", smaller_mib)
        )
    found = [f"  {way}: about {gib(mib)} a step" for way, mib in ways if mib is not None and mib < 0.9 * step_mib]
    return [f"A step takes about {gib(step_mib)}. Less takes:", *found] if found else []
