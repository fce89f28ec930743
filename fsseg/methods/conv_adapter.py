"""Conv-Adapter: a small depthwise-separable branch beside every convolution."""

import math

from pydantic import Field
from torch import Tensor, nn

from fsseg.methods import contract
from fsseg.methods.attached import add_parallel
from fsseg.methods.targets import Target, TargetOptions, targeted_modules, why_nothing


class ConvAdapterOptions(TargetOptions):
    """Options of Conv-Adapter."""

    targets: Target = "encoder"
    reduction: int = Field(default=4, ge=1)
    """The branch has (input channels / reduction) channels, at least one."""


class ConvAdapter(contract.Method):
    """Parallel adapters, y + c * Point(ReLU(Depth(x))) (Chen et al., CVPR-W 2024; the form parallel to a convolution).

    Depth is a grouped convolution with the kernel, stride, padding and dilation of the convolution beside it, to fewer
    channels; Point a 1x1x1 convolution to its outputs; c a factor per output channel. Point starts at zero, c at one.
    1x1x1 and transposed convolutions get none.
    """

    Options = ConvAdapterOptions
    options: ConvAdapterOptions
    family = "adapter"
    not_merged_because = "its branches have a ReLU between their convolutions"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a part of a network that has no convolution with a spatial extent."""
        otherwise = "there is no convolution larger than 1x1x1 to adapt.\n  Use adaptformer."
        return why_nothing(lambda whole: self._targets(network, whole), trained_whole, otherwise)

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say how much of an attention network gets no branch."""
        modules = targeted_modules(network, self.options.targets, trained_whole)
        linear = sum(isinstance(module, nn.Linear) for _, module in modules)
        if not linear:
            return []
        reached = len(self._targets(network, trained_whole))
        return [
            f"{reached} convolution(s) get a branch, {linear} linear layers get none. To adapt the attention blocks use"
            " adaptformer or lora."
        ]

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add a branch to every targeted convolution."""
        targets = self._targets(network, trained_whole)
        for _, layer in targets:
            add_parallel(layer, "conv_adapter", Branch(layer, self.options.reduction))
        return [name for name, _ in targets]

    def _targets(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[tuple[str, nn.Conv3d]]:
        modules = targeted_modules(network, self.options.targets, trained_whole)
        return [(name, m) for name, m in modules if isinstance(m, nn.Conv3d) and math.prod(m.kernel_size) > 1]


class Branch(nn.Module):
    """The branch beside one convolution: features (batch, Ci, z, y, x) to (batch, Co, z', y', x')."""

    def __init__(self, layer: nn.Conv3d, reduction: int) -> None:
        super().__init__()
        width = max(1, layer.in_channels // reduction)
        self.depth = nn.Conv3d(
            layer.in_channels,
            width,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            groups=math.gcd(layer.in_channels, width),
            bias=False,
        )
        self.point = nn.Conv3d(width, layer.out_channels, 1, bias=False)
        self.factor = nn.Parameter(self.point.weight.new_ones(layer.out_channels, 1, 1, 1))
        nn.init.zeros_(self.point.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return what is added to the convolution's output."""
        return self.factor * self.point(nn.functional.relu(self.depth(features)))
