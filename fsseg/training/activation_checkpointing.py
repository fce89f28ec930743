"""Trade time for memory: blocks and their adapters forget what they computed and compute it again later."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from fsseg.methods.attached import attached_to
from fsseg.models.blocks import blocks_of


@contextmanager
def checkpointed(network: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """Let every block of `network` keep only its input for the backward pass, inside the `with` statement.

    So does an adapter beside or behind a block; those inside are part of it. Losses and gradients are the same. A block
    whose batch normalisation follows the batches keeps everything: computed twice, it would follow each batch twice.
    """
    blocks = [block.module for block in blocks_of(network)] if enabled else []
    parts = [part for block in blocks for part in (block, *attached_to(block)) if not _follows_batches(part)]
    for part in parts:
        part.forward = partial(checkpoint, part.forward, use_reentrant=False)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def _follows_batches(part: nn.Module) -> bool:
    norms = (module for module in part.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return any(norm.training and norm.track_running_stats for norm in norms)
