"""Spatial adapter: two convolutions on the last features of a frozen network."""

from typing import Literal

from torch import Tensor, nn

from fsseg.methods.contract import Method, MethodOptions
from fsseg.models.parts import parts_of

_NAME = "spatial_adapter"


class SpatialAdapterOptions(MethodOptions):
    """Options of the spatial adapter."""

    kernel_size: Literal[1, 3] = 3
    """Extent of both convolutions; 3 is FSEFT's bb3DAdapter, 1 its bbAdapter, which sees no neighbours."""


class SpatialAdapter(Method):
    """Put z + conv(ReLU(conv(z))) in front of the head (FSEFT, Silva-Rodriguez et al. 2025).

    z are the last decoder features, of C channels; both convolutions go from C to C without bias, 2 C^2 k^3 parameters
    in all, and the second starts at zero. The network in front of them is a black box. For a known structure the head
    starts from its pretrained row.
    """

    Options = SpatialAdapterOptions
    options: SpatialAdapterOptions
    decoder_choices = ("frozen",)
    reads_features_only = True
    family = "black_box"
    published_rate = 1e-4
    not_merged_because = "between its convolutions is a ReLU, so no weights of a 1x1x1 head compute the same"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a network whose head is no 3D convolution."""
        if isinstance(parts_of(network).head, nn.Conv3d):
            return ""
        return "its head is no 3D convolution, in front of which the adapter would sit.\n  Use lora."

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Make the adapter a submodule of the full-resolution head, which calls it first."""
        head = parts_of(network).head
        adapter = _Adapter(head.in_channels, self.options.kernel_size)
        head.register_module(_NAME, adapter.to(head.weight.device))
        head.register_forward_pre_hook(_adapt)
        return [next(name for name, module in network.named_modules() if module is head)]


class _Adapter(nn.Module):
    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.second = nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.zeros_(self.second.weight)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return adapted features (B, C, D, H, W)."""
        return features + self.second(self.activation(self.first(features)))


def _adapt(head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (head.get_submodule(_NAME)(inputs[0]),)
