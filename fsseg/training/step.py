"""One optimisation step, shared by pretraining and adaptation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsseg.config.base import Precision
from fsseg.training.placement import computing_dtype, mixed_precision

CLIP_NORM = 12.0  # nnU-Net's


@dataclass(frozen=True)
class Optimisation:
    """What a step changes, and how it computes.

    Attributes:
        optimizer: stepped once a step.
        parameters: whose gradient norm is clipped.
        device: where the network is.
        precision: of the forward passes, see `computing_dtype`.
        scaler: gradient scaler of float16 training; None without.
        clip_norm: to which the gradient norm is clipped; None clips nothing.
    """

    optimizer: torch.optim.Optimizer
    parameters: Sequence[nn.Parameter]
    device: torch.device
    precision: Precision
    scaler: torch.amp.GradScaler | None = None
    clip_norm: float | None = CLIP_NORM


def optimisation_step(
    optimisation: Optimisation,
    *compute_losses: Callable[[], Tensor],
    penalty: Callable[[], Tensor | None] | None = None,
    before_step: Callable[[], None] | None = None,
) -> tuple[float, bool]:
    """Forward, backward, clip and step.

    Args:
        optimisation: what is changed, and how.
        compute_losses: each runs a forward pass and returns a scalar loss, in the given precision. Of several the mean
            is taken, one backward pass at a time.
        penalty: returns a scalar that is added to the loss before the backward pass, or None.
        before_step: called after the backward pass, with unscaled gradients; not when the scaler will skip the step.

    Returns:
        The loss without the penalty (with it where only it is not finite), and whether the optimiser stepped: False
        when the scaler found infinite gradients and skipped.
    """
    scaler, parameters = optimisation.scaler, optimisation.parameters
    optimisation.optimizer.zero_grad(set_to_none=True)
    losses = []
    for compute_loss in compute_losses:
        with mixed_precision(optimisation.device, optimisation.precision):
            loss = compute_loss() / len(compute_losses)
            extra = None if penalty is None else penalty()
            objective = loss if extra is None else loss + extra / len(compute_losses)
        (objective if scaler is None else scaler.scale(objective)).backward()
        losses.append(torch.where(objective.isfinite(), loss, objective).detach())
    if scaler is not None:
        scaler.unscale_(optimisation.optimizer)
    if before_step is not None and (scaler is None or _are_finite(parameters)):
        before_step()
    if optimisation.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, optimisation.clip_norm)
    return float(sum(losses)), _step(optimisation.optimizer, scaler)


def _step(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> bool:
    """Step; return whether the scaler, if there is one, let it."""
    if scaler is None:
        optimizer.step()
        return True
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() >= scale


def _are_finite(parameters: Iterable[nn.Parameter]) -> bool:
    return all(bool(p.grad.isfinite().all()) for p in parameters if p.grad is not None)


def gradient_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler | None:
    """Return a gradient scaler where float16 is used: on CUDA devices without bfloat16."""
    return torch.amp.GradScaler(device.type) if computing_dtype(device, precision) is torch.float16 else None
