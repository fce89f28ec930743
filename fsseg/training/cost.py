"""What a training step costs: seconds and memory, measured, or expected before it is taken."""

import copy
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fsseg.training.activation_checkpointing import checkpointed


class BatchClock:
    """Times the steps of a training by when it asks for its batches.

    Attributes:
        loading: seconds to prepare each batch.
        computing: seconds from one batch to the next, in which its step is taken.
    """

    def __init__(self) -> None:
        self.loading: list[float] = []
        self.computing: list[float] = []

    def timed(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Yield the batches."""
        asked = time.perf_counter()
        for batch in batches:
            given = time.perf_counter()
            self.loading.append(given - asked)
            try:
                yield batch
            finally:  # also when the training has ended with this step
                asked = time.perf_counter()
                self.computing.append(asked - given)


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
    own = {_identity(p.untyped_storage()) for p in network.parameters()}

    def keep(tensor: Tensor) -> _Kept:
        holder = _Kept(tensor.detach())  # an output with its node would keep itself, and the whole graph, alive
        kept.add(holder)
        return holder

    def mib() -> float:
        storages = [holder.tensor.untyped_storage() for holder in kept]
        return sum({_identity(s): s.nbytes() for s in storages if _identity(s) not in own}.values()) / 2**20

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
        yield mib


def _identity(storage: torch.UntypedStorage) -> int:
    return storage.data_ptr() or storage._cdata  # on the meta device all lie at 0


def expected_step_mib(
    network: nn.Module,
    image_shape: Sequence[int],
    *,
    dtype: torch.dtype,
    checkpoint_activations: bool = False,
    compute_loss: Callable[[Any], object] | None = None,
) -> float:
    """Return about what a training step will hold at its largest, weights and optimiser included, in MiB.

    A copy of the network on torch's meta device says what a forward pass keeps: it takes no memory, whatever the patch.

    Args:
        network: in training mode, with what is trained requiring gradients; it is left as it is.
        image_shape: (B, channels, D, H, W) of a batch.
        dtype: in which it computes.
        checkpoint_activations: whether blocks keep their input only.
        compute_loss: of what the network returns, on the meta device; it computes in float32. None: it keeps little.
    """
    on_meta = copy.deepcopy(network).to("meta")
    with checkpointed(on_meta, enabled=checkpoint_activations), kept_for_backward(on_meta) as kept:
        output = on_meta(torch.empty(*image_shape, device="meta"))  # alive: it holds what is kept
        by_network = kept()
        loss = None if compute_loss is None else compute_loss(output)
        mib = by_network * torch.finfo(dtype).bits / 32 + kept() - by_network
    del output, loss
    return mib + _weights_mib(network)


def _weights_mib(network: nn.Module) -> float:
    """Return the memory of weights, and of gradient and AdamW's two moments of those that are trained."""
    return mib_of(network.parameters()) + 3 * mib_of(p for p in network.parameters() if p.requires_grad)


def mib_of(parameters: Iterable[nn.Parameter]) -> float:
    """Return the memory of parameters in MiB."""
    return sum(p.numel() * p.element_size() for p in parameters) / 2**20
