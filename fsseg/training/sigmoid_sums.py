"""Sums over the voxels of a crop that losses of sigmoid channels are made of, with their gradient in closed form.

Step by step, autograd would keep five float32 tensors of the size of the logits; this keeps one and a mask. With many
structures the logits are a good part of a training step.
"""

from typing import Any

import torch
from torch import Tensor

_NEVER = -1e4  # a logit whose probability is exactly 0, and its cross-entropy against 0 too


class SigmoidSums(torch.autograd.Function):
    """Sums over voxels of a masked sigmoid, (B, C) each, from logits (B, C, N).

    With x the logits, p = sigmoid(x), target t and validity v in {0, 1}:

        cross-entropy  sum v (softplus(x) - x t)     d/dx = v (p - t)
        overlap        sum v p t                     d/dx = v t p (1 - p)
        predicted      sum v p                       d/dx = v p (1 - p)
        reference      sum v t                       none
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return cross-entropy, overlap, predicted and reference.

        Args:
            ctx: what the backward pass needs.
            logits: (B, C, N) floating point.
            target, valid: (B, C, N) bool.
        """
        logits = torch.where(valid, logits, _NEVER)
        probability = torch.sigmoid(logits)
        shown = target & valid
        ctx.save_for_backward(probability, shown)
        t = _as_numbers(shown, logits.dtype)
        # softplus(x) = max(x, 0) - log max(p, 1 - p); F.softplus is several times slower on a CPU.
        scratch = (probability - 0.5).abs_().add_(0.5).log_()
        cross_entropy = logits.clamp(min=0).sub_(scratch).addcmul_(logits, t, value=-1)
        overlap = torch.mul(probability, t, out=scratch)
        return cross_entropy.sum(-1), overlap.sum(-1), probability.sum(-1), t.sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the logits."""
        probability, shown = ctx.saved_tensors
        t = _as_numbers(shown, probability.dtype)
        of_entropy, of_overlap, of_predicted = (gradient.unsqueeze(-1) for gradient in gradients[:3])
        gradient = torch.addcmul(of_predicted, t, of_overlap).mul_(probability)
        gradient.addcmul_(gradient, probability, value=-1)
        gradient.addcmul_(torch.sub(probability, t, out=t), of_entropy)
        return gradient, None, None


def _as_numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 and 1; from bytes, because a conversion from bool is four times slower on a CPU."""
    return mask.view(torch.uint8).to(dtype)
