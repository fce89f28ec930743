"""The transductive size constraint: what is predicted in unlabelled images shall be about as large as in labelled ones.

With S the size that is wanted and P the sum of the probabilities of a structure in an image,

    e = (S - P) / max(S, P),     penalty = max(|e| - margin, 0)

where the denominator has no gradient (Silva-Rodriguez et al., MedAGI 2023). It is taken in an optimiser step of its
own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SizeRule:
    """When the constraint is taken, and how strongly.

    Attributes:
        margin: relative error of a size that costs nothing.
        weight: of the penalty.
        first: after which step it is taken for the first time.
        every: how many steps are between two times.
    """

    margin: float
    weight: float
    first: int
    every: int

    def is_due(self, steps: int) -> bool:
        """Return whether the constraint is taken after so many steps."""
        return steps >= self.first and steps % self.every == 0


class SizeConstraint:
    """The constraint on a few images, which are cut into blocks.

    Args:
        forward: gives logits (1, C, D, H, W) of a block; what of it requires a gradient is trained.
        images: of each image its blocks (1, channels or features, D, H, W), on any device.
        sizes: (structures,) wanted sizes, in voxels of the blocks.
        rule: when and how strongly.
        softmax: whether channel 0 is the background of a softmax; else every channel is a sigmoid.
    """

    def __init__(
        self, forward: nn.Module, images: Sequence[Sequence[Tensor]], sizes: Tensor, rule: SizeRule, *, softmax: bool
    ) -> None:
        self.forward = forward
        self.images = images
        self.sizes = sizes
        self.rule = rule
        self.softmax = softmax

    def step(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Take the constraint's own step, where it is due after so many steps and any size is beyond the margin."""
        if not self.rule.is_due(steps):
            return
        slopes = [self._slope(blocks) for blocks in self.images]
        if not any(bool(slope.any()) for slope in slopes):
            return
        optimizer.zero_grad(set_to_none=True)
        for blocks, slope in zip(self.images, slopes, strict=True):
            for block in blocks:  # the penalty is linear in the sizes, so one block at a time gives its whole gradient
                (self._predicted(block) * slope).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _slope(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return the derivative of the weighted mean penalty by the predicted size of each structure in an image."""
        with torch.no_grad():
            predicted = torch.stack([self._predicted(block) for block in blocks]).sum(0)
        wanted = self.sizes.to(predicted)
        larger = torch.maximum(wanted, predicted)
        error = (wanted - predicted) / larger
        active = error.abs() > self.rule.margin
        return -self.rule.weight * error.sign() * active / larger / (len(wanted) * len(self.images))

    def _predicted(self, block: Tensor) -> Tensor:
        """Return the sum of the probabilities of each structure in a block."""
        logits = self.forward(block.to(self._device))
        probabilities = logits.softmax(1)[:, 1:] if self.softmax else logits.sigmoid()
        return probabilities.sum((0, 2, 3, 4))

    @property
    def _device(self) -> torch.device:
        return next(self.forward.parameters()).device
