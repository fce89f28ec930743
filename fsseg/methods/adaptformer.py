"""AdaptFormer: a bottleneck beside the MLP of every attention block, or beside every block of convolutions."""

from pydantic import Field
from torch import Tensor, nn

from fsseg.methods.attached import add_parallel
from fsseg.methods.block_adapter import BlockAdapterMethod
from fsseg.methods.targets import TargetOptions
from fsseg.models.blocks import Block

_NAME = "adaptformer"


class AdaptFormerOptions(TargetOptions):
    """Options of AdaptFormer."""

    bottleneck: int = Field(default=64, ge=1, le=4096)
    """Channels between the two projections."""
    scale: float = Field(default=0.1, gt=0)
    """Fixed factor on what the adapter adds."""


class AdaptFormer(BlockAdapterMethod):
    """Parallel bottlenecks, x + MLP(LN(x)) + s Up(ReLU(Down(x))) (Chen et al., NeurIPS 2022).

    Down starts Kaiming-uniform, Up and the biases at zero. In an attention block Down reads the tokens in front of the
    block's second norm, as in the paper. On a network of convolutions the bottleneck is a pair of 1x1x1 convolutions
    beside each block, the first with the block's stride. Preset `fseft`: bottleneck 16, encoder only.
    """

    Options = AdaptFormerOptions
    options: AdaptFormerOptions
    not_merged_because = "its bottlenecks have a ReLU between their projections"

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add a bottleneck to every targeted block."""
        blocks = self.blocks(network, trained_whole)
        for block in blocks:
            self._add(block)
        return [block.name for block in blocks]

    def _add(self, block: Block) -> None:
        bottleneck, scale = self.options.bottleneck, self.options.scale
        if not block.attention:
            add_parallel(block.module, _NAME, ConvolutionBottleneck(block, bottleneck, scale))
            return
        norm, mlp = block.module.norm2, block.module.mlp
        add_parallel(mlp, _NAME, TokenBottleneck(norm, block.in_channels, bottleneck, scale))  # type: ignore[arg-type]
        norm.register_forward_hook(_keep_input)  # type: ignore[union-attr]


class ConvolutionBottleneck(nn.Module):
    """s Up(ReLU(Down(x))) of (batch, channels, z, y, x) by 1x1x1 convolutions, Down with the block's stride."""

    def __init__(self, block: Block, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Conv3d(block.in_channels, bottleneck, 1, stride=block.stride)  # type: ignore[arg-type]
        self.up = nn.Conv3d(bottleneck, block.out_channels, 1)
        self.scale = scale
        _start(self.down, self.up)

    def forward(self, features: Tensor) -> Tensor:
        """Return what is added to the block's output."""
        return self.scale * self.up(nn.functional.relu(self.down(features)))


class TokenBottleneck(nn.Module):
    """s Up(ReLU(Down(x))) of (..., channels), x being what the norm in front of the MLP was given."""

    def __init__(self, norm: nn.Module, channels: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.down = nn.Linear(channels, bottleneck)
        self.up = nn.Linear(bottleneck, channels)
        self.scale = scale
        self._norm = (norm,)  # in a tuple, or it would become a submodule and its weights get a second name
        _start(self.down, self.up)

    def forward(self, normalised: Tensor) -> Tensor:
        """Return what is added to the output of the MLP."""
        features = self._norm[0].__dict__.pop(_KEPT)
        return self.scale * self.up(nn.functional.relu(self.down(features)))


_KEPT = "_adaptformer_input"


def _keep_input(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    norm.__dict__[_KEPT] = inputs[0]


def _start(down: nn.Linear | nn.Conv3d, up: nn.Linear | nn.Conv3d) -> None:
    nn.init.kaiming_uniform_(down.weight, a=5**0.5)
    nn.init.zeros_(up.weight)
    for bias in (down.bias, up.bias):
        nn.init.zeros_(bias)  # type: ignore[arg-type]
