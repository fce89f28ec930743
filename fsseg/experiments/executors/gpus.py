"""Which GPU of this machine each run sees: one run a GPU; more runs than GPUs share them in turn."""

import os
from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus_for(device: str) -> tuple[str, ...]:
    """Return the GPUs that runs can be shared out to, by the names that CUDA knows them by.

    There are none where the device is no GPU, or is one GPU by its number.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
    """
    if device not in ("auto", "cuda"):
        return ()
    import torch

    count = torch.cuda.device_count()
    chosen = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)] if chosen is None else chosen.split(",")
    return tuple(name.strip() for name in names[:count])


def shared_out(gpus: Sequence[str], workers: int) -> list[dict[str, str]]:
    """Return for each worker the environment variables by which it sees one GPU; none where there is none."""
    return [{VISIBLE: gpus[number % len(gpus)]} if gpus else {} for number in range(workers)]
