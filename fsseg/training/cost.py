"""What a training step costs: seconds and memory."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepCost:
    """Cost of one optimisation step.

    Attributes:
        seconds: wall time.
        memory_mib: peak of the device; on a CPU what a step holds at its largest (`kept_for_backward`), with weights.
    """

    seconds: float
    memory_mib: float


@contextmanager
def kept_for_backward(network: nn.Module) -> Iterator[dict[int, int]]:
    """Count the memory that forward passes in the block keep for their backward pass, the network's weights excepted.

    Yields:
        Address -> bytes of every storage that is kept.
    """
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def mib_of(parameters: Iterable[nn.Parameter]) -> float:
    """Return the memory of parameters in MiB."""
    return sum(p.numel() * p.element_size() for p in parameters) / 2**20


def measure_step(
    network: nn.Module, compute_loss: Callable[[], Tensor], step: Callable[[], object], device: torch.device
) -> StepCost:
    """Measure the second of two steps.

    Args:
        network: what is trained as a whole; it and its batch are on `device`.
        compute_loss: runs a forward pass.
        step: runs a whole optimisation step.
        device: where it runs.
    """
    step()  # the first step sets things up: kernels are chosen, the optimiser's state is made
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
        return StepCost(time.perf_counter() - started, torch.cuda.max_memory_allocated() / 2**20)
    seconds = time.perf_counter() - started
    with kept_for_backward(network) as kept:
        compute_loss()
    of_each_parameter = 4  # weight, gradient and AdamW's two moments
    return StepCost(seconds, sum(kept.values()) / 2**20 + of_each_parameter * mib_of(network.parameters()))
