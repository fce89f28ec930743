"""Residual CNN adapters: a 1x1x1 convolution beside every larger one, which lies in its central tap."""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.methods import contract
from fsseg.methods.targets import Target, TargetOptions, targeted_modules, why_nothing


class ResidualAdapterOptions(TargetOptions):
    """Options of residual adapters."""

    targets: Target = "encoder"
    start: Literal["random", "zero"] = "random"
    """Initialisation: "random" is the published one, with which the network changes before the first step; "zero"
    starts as the pretrained network.
    """


class ResidualAdapter(contract.Method):
    """Parallel residual adapters, y = W * x + A * x with a 1x1x1 kernel A (Rebuffi et al., CVPR 2018).

    Beside a centred k^3 convolution of the same stride, A is exactly an update of its central tap, so it is formed in
    the weight and merges. The published A starts random (Kaiming-uniform, a = sqrt 5), as in FSEFT, whose low scores
    for it may come from that; preset `zero` starts it at zero. The norms stay as they are.
    """

    Options = ResidualAdapterOptions
    options: ResidualAdapterOptions
    family = "adapter"

    @property
    def identity_at_start(self) -> bool:  # type: ignore[override]
        """Only from zero."""
        return self.options.start == "zero"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a part of a network without centred convolutions."""
        otherwise = "there is no centred convolution larger than 1x1x1 to adapt.\n  Use lora or adaptformer."
        return why_nothing(lambda whole: self._targets(network, whole), trained_whole, otherwise)

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add an update of the central tap to every targeted convolution."""
        targets = self._targets(network, trained_whole)
        for _, layer in targets:
            update = CentralTap(layer)
            if self.options.start == "zero":
                nn.init.zeros_(update.tap)
            parametrize.register_parametrization(layer, "weight", update)
        return [name for name, _ in targets]

    def _targets(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[tuple[str, nn.Conv3d]]:
        modules = targeted_modules(network, self.options.targets, trained_whole)
        return [(name, module) for name, module in modules if isinstance(module, nn.Conv3d) and _is_centred(module)]


class CentralTap(nn.Module):
    """Parametrization that adds (Co, Ci / groups) to the central tap of a kernel (Co, Ci / groups, kz, ky, kx)."""

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.tap = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[:2]))
        nn.init.kaiming_uniform_(self.tap, a=math.sqrt(5))
        self.padding = [(k // 2, k // 2) for k in reversed(layer.kernel_size)]

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight."""
        around = [width for pair in self.padding for width in pair]
        return weight + nn.functional.pad(self.tap[:, :, None, None, None], around)


def _is_centred(layer: nn.Conv3d) -> bool:
    sizes = zip(layer.kernel_size, layer.dilation, layer.padding, strict=True)
    return math.prod(layer.kernel_size) > 1 and all(k % 2 == 1 and p == d * (k // 2) for k, d, p in sizes)
