"""Compacter: adapters whose weights are sums of Kronecker products."""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from fsseg.methods.attached import add_behind
from fsseg.methods.biases import norm_parameters
from fsseg.methods.block_adapter import BlockAdapterMethod
from fsseg.methods.targets import Target, TargetOptions
from fsseg.models.blocks import Block

_NAME = "compacter"


class CompacterOptions(TargetOptions):
    """Options of Compacter."""

    targets: Target = "encoder"
    bottleneck: int = Field(default=24, ge=1, le=4096)
    """Channels between the two projections, a multiple of `products`."""
    products: int = Field(default=4, ge=1)
    """Number n of Kronecker products that a weight is the sum of; divides the channels of every block."""


class Compacter(BlockAdapterMethod):
    """h + Up(GELU(Down(h))) with weights sum_i A_i (x) s_i t_i' (Mahabadi et al., NeurIPS 2021).

    The A are shared by all adapters: one set for Down, one for Up, as their sizes depend on `products` alone.
    In an attention block one adapter sits behind the attention and one behind the MLP; in a network of convolutions one
    sits behind every block, as 1x1x1 convolutions. The s of Up start at zero. The norms' affine parameters are trained
    too, as in the paper.

    FSEFT's code has something else of this name, which is in none of its tables and no preset here: the outputs of
    attention and MLP pass through one Kronecker layer each, without a residual, so that a block starts from noise.
    """

    Options = CompacterOptions
    options: CompacterOptions
    not_merged_because = "its adapters have a GELU between their projections"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse channels that the products do not divide, too."""
        reason = super().unsupported_reason(network, trained_whole)
        n = self.options.products
        wrong = [
            f"{b.name} ({b.out_channels} channels)" for b in self.blocks(network, trained_whole) if b.out_channels % n
        ]
        if self.options.bottleneck % n:
            wrong.append(f"the bottleneck ({self.options.bottleneck})")
        if reason or not wrong:
            return reason
        return (
            f"it needs channels that are multiples of products={n}, but not so: {', '.join(wrong[:5])}\n"
            "  Set another number of products, or another bottleneck."
        )

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add the adapters."""
        blocks = self.blocks(network, trained_whole)
        n = self.options.products
        device = next(network.parameters()).device  # of the start: moving the adapters one by one would part them
        shared = nn.ParameterList(nn.Parameter(torch.empty(n, n, n, device=device)) for _ in range(2))
        for matrices in shared:
            nn.init.normal_(matrices, std=0.1)
        for block in blocks:
            places = (block.module.attn, block.module.mlp) if block.attention else (block.module,)
            for place in places:
                add_behind(place, _NAME, Adapter(block, self.options.bottleneck, *shared))  # type: ignore[arg-type]
        return [block.name for block in blocks]

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield the affine parameters of the norms."""
        found = norm_parameters(network, self.options.targets, trained_whole, which=("weight", "bias"))
        return (parameter for _, parameter in found)


class Adapter(nn.Module):
    """h + Up(GELU(Down(h))) of tokens (..., channels) or of features (batch, channels, z, y, x)."""

    def __init__(self, block: Block, bottleneck: int, down: nn.Parameter, up: nn.Parameter) -> None:
        super().__init__()
        self.tokens = block.attention
        self.down = KroneckerLinear(block.out_channels, bottleneck, down)
        self.up = KroneckerLinear(bottleneck, block.out_channels, up)
        nn.init.zeros_(self.up.left)

    def forward(self, features: Tensor) -> Tensor:
        """Return the adapted features."""
        tokens = features if self.tokens else features.movedim(1, -1)
        change = self.up(nn.functional.gelu(self.down(tokens)))
        return features + (change if self.tokens else change.movedim(-1, 1))


class KroneckerLinear(nn.Module):
    """A linear layer (inputs to outputs) of weight sum_i A_i (x) s_i t_i', with shared A (n, n, n)."""

    def __init__(self, inputs: int, outputs: int, shared: nn.Parameter) -> None:
        super().__init__()
        n = len(shared)
        self.shared = shared
        self.left = nn.Parameter(torch.empty(n, outputs // n))
        self.right = nn.Parameter(torch.empty(n, inputs // n))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # With entries of A at 0.1 this gives the weight the variance 1 / inputs.
        for factor in (self.left, self.right):
            nn.init.normal_(factor, std=(10 / (n * inputs) ** 0.5) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        weight = torch.einsum("iab,ic,id->acbd", self.shared, self.left, self.right)
        return nn.functional.linear(tokens, weight.reshape(len(self.bias), -1), self.bias)
