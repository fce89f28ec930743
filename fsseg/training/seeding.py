"""Random state: everything random in a run follows from its seed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Run a block with all generators seeded from `entropy`, then give them back their state.

    A sample that is drawn under `seeded(seed, index)` does not depend on which worker draws it, nor on what was drawn
    before, so a resumed run sees the same samples as an uninterrupted one.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the augmentation library draws from numpy's global generator
        torch.manual_seed(seed)  # on all devices
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def resolve_device(name: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda", "cuda:N" or "mps"; one with a number becomes the current one.

    Raises:
        UsageError: it is not there, or no device is called so.
    """
    from fsseg.config.errors import UsageError

    kind, _, number = name.partition(":")
    if name not in DEVICES and not (kind == "cuda" and number.isdecimal()):
        raise UsageError(f"Unknown device {name!r}.\n  allowed: {', '.join(DEVICES)}, cuda:N for the one with number N")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        return _cuda_device(name, number)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("No MPS device (Apple GPU) is available here.\n  Use --device auto or cpu.")
    return torch.device(name)


def _cuda_device(name: str, number: str) -> torch.device:
    from fsseg.config.errors import UsageError

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(
            "No CUDA device is available here.\n  Use --device cpu, or install a torch build for your GPU."
        )
    if not number:
        return torch.device(name)
    if int(number) >= count:
        found = ", ".join(f"cuda:{index}" for index in range(count))
        raise UsageError(f"There is no device {name} here.\n  allowed: {found}; CUDA counts from 0")
    device = torch.device("cuda", int(number))
    torch.cuda.set_device(device)  # what asks torch for "the" device, such as a peak of memory, means this one
    return device
