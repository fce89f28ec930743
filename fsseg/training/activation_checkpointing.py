"""Trade time for memory: blocks forget what they computed and compute it again in the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from fsseg.models.blocks import blocks_of


@contextmanager
def checkpointed(network: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """Let every block of `network` keep only its input for the backward pass, inside the `with` statement.

    Losses and gradients are the same. Adapters beside a block keep what they need. A block whose batch normalisation
    follows the batches keeps everything: computed twice, it would follow each batch twice.
    """
    blocks = [block.module for block in blocks_of(network) if not _follows_batches(block.module)] if enabled else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _follows_batches(block: nn.Module) -> bool:
    norms = (module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return any(norm.training and norm.track_running_stats for norm in norms)
