"""LoRA on linear, convolution and transposed convolution weights."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.config.errors import UsageError
from fsseg.methods import contract
from fsseg.models.parts import parts_of

Target = Literal["encoder", "decoder", "all"]
_LAYERS = (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)


class LoRAOptions(contract.MethodOptions):
    """Options of LoRA.

    Attributes:
        rank: r; on a 3x3x3 kernel a rank costs r(27 Ci + Co) parameters, so 2 to 8 are usual.
        alpha: the update is scaled by alpha / rank; None means alpha = rank, a scale of one.
        targets: which part of the network gets low-rank updates. Layers that are trained whole are left out, so with
            a tuned decoder "all" means the encoder.
    """

    rank: int = Field(default=4, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    targets: Target = "all"


class LoRA(contract.Method):
    """Low-rank adaptation, W' = W + (alpha / r) B A (Hu et al., ICLR 2022).

    A weight is read as a matrix. Linear (o, i): B (o, r), A (r, i). Conv3d (Co, Ci/groups, K): B (Co, r),
    A (r, Ci/groups * K), that is a k^3 convolution to r channels followed by a 1x1x1 one. ConvTranspose3d
    (Ci, Co/groups, K): A (Ci, r), B (r, Co/groups * K). A starts Kaiming-uniform (a = sqrt 5), B at zero, so the
    network starts unchanged. The update is formed in the weight, which covers stride, dilation, padding and groups,
    and merges exactly.
    """

    Options = LoRAOptions
    options: LoRAOptions
    family = "low_rank"

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add a low-rank update to every targeted weight that is not trained whole."""
        targets = self._targets(network, trained_whole)
        if not targets:
            raise UsageError(
                f"LoRA with targets={self.options.targets!r} finds no layer to adapt: every targeted layer is trained"
                " whole.\n  Use targets=encoder, or --decoder frozen."
            )
        self._require_rank_fits(targets)
        for _, layer in targets:
            update = LowRankUpdate(
                layer.weight,  # type: ignore[arg-type]
                rank=self.options.rank,
                scale=(self.options.alpha or self.options.rank) / self.options.rank,
                transposed=isinstance(layer, nn.ConvTranspose3d),
            )
            parametrize.register_parametrization(layer, "weight", update)
        return [name for name, _ in targets]

    def _targets(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[tuple[str, nn.Module]]:
        parts = parts_of(network)
        roots = {"encoder": (parts.encoder,), "decoder": parts.decoder, "all": (parts.encoder, *parts.decoder)}
        wanted = {id(module) for root in roots[self.options.targets] for module in root.modules()}
        return [
            (name, module)
            for name, module in network.named_modules()
            if id(module) in wanted and isinstance(module, _LAYERS) and module.weight not in trained_whole
        ]

    def _require_rank_fits(self, targets: list[tuple[str, nn.Module]]) -> None:
        rank = self.options.rank
        too_small = [(name, min(_matrix_shape(m.weight))) for name, m in targets]  # type: ignore[arg-type]
        too_small = [(name, largest) for name, largest in too_small if rank > largest]
        if too_small:
            listing = ", ".join(f"{name} (at most {largest})" for name, largest in too_small[:5])
            raise UsageError(
                f"LoRA rank {rank} is larger than {len(too_small)} layer(s) allow: {listing}\n"
                f"  allowed here: 1 to {min(largest for _, largest in too_small)}. Set a smaller rank."
            )


class LowRankUpdate(nn.Module):
    """Parametrization W -> W + scale * left @ right on a weight of any shape, formed in float32."""

    def __init__(self, weight: Tensor, *, rank: int, scale: float, transposed: bool) -> None:
        super().__init__()
        rows, columns = _matrix_shape(weight)
        self.scale = scale
        self.left = nn.Parameter(weight.new_zeros(rows, rank))
        self.right = nn.Parameter(weight.new_zeros(rank, columns))
        random, fan_in = (self.left, rows) if transposed else (self.right, columns)
        nn.init.uniform_(random, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))  # = Kaiming-uniform with a = sqrt 5

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, in the shape of `weight`."""
        # Under autocast the product would round to half precision, and training and merging would disagree.
        with torch.autocast(weight.device.type, enabled=False):
            update = self.left.float() @ self.right.float()
            return weight + self.scale * update.view_as(weight)


def _matrix_shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight[0].numel()
