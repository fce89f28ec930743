"""Random state: everything random in a run follows from its seed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the augmentation library draws from numpy's global generator
    torch.manual_seed(seed)


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Run a block with all generators seeded from `entropy`, then give them back their state.

    A sample that is drawn under `seeded(seed, index)` does not depend on which worker draws it, nor on what was drawn
    before, so a resumed run sees the same samples as an uninterrupted one.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        seed_everything(int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0]))
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def resolve_device(name: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda" or "mps"; raise `UsageError` if it is not there."""
    from fsseg.config.errors import UsageError

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "No CUDA device is available here.\n  Use --device cpu, or install a torch build for your GPU."
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("No MPS device (Apple GPU) is available here.\n  Use --device auto or cpu.")
    return torch.device(name)
