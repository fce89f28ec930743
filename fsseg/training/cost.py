"""What a training step costs: seconds and memory."""

import time
import weakref
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


class _Kept:
    """A tensor that a graph keeps; it is gone with the graph that holds it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def kept_for_backward(network: nn.Module) -> Iterator[Callable[[], float]]:
    """Count the memory that forward passes in the block keep for their backward pass, the network's weights excepted.

    What is kept by a graph that is gone, such as that of a frozen block, does not count. Of a checkpointed block the
    input counts, not what the backward pass computes anew, one block at a time.

    Yields:
        A function that returns the MiB that are kept when it is called, every storage counted once. The loss must still
        be alive then.
    """
    kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def keep(tensor: Tensor) -> _Kept:
        holder = _Kept(tensor.detach())  # an output with its node would keep itself, and the whole graph, alive
        kept.add(holder)
        return holder

    def mib() -> float:
        storages = [holder.tensor.untyped_storage() for holder in kept]
        return sum({s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in own}.values()) / 2**20

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
        yield mib


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
        loss = compute_loss()
    of_each_parameter = 4  # weight, gradient and AdamW's two moments
    memory = kept() + of_each_parameter * mib_of(network.parameters())
    del loss  # it held what was counted
    return StepCost(seconds, memory)
