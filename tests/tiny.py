"""Tiny networks with all that the large ones have: aliased modules, norms, skips, unused heads, shifted windows."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fsseg.models.networks import build_network

STRUCTURES = 3
_COMMON: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 16],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_BATCH_NORM = {"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d", "norm_op_kwargs": {}}
_UNET = "dynamic_network_architectures.architectures.unet."


def _block(class_name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "network_class_name": _UNET + class_name,
        "arch_kwargs": {**_COMMON, **arguments},
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _own_block(class_name: str, **arguments: Any) -> dict[str, Any]:
    return {"network_class_name": "fsseg.models." + class_name, "arch_kwargs": arguments, "_kw_requires_import": []}


# The architecture block of nnU-Net plans, by kind of network.
ARCHITECTURES = {
    "plain": _block("PlainConvUNet", n_conv_per_stage=[2, 2, 2]),
    "residual": _block("ResidualEncoderUNet", n_blocks_per_stage=[1, 1, 1]),
    "plain_batch_norm": _block("PlainConvUNet", n_conv_per_stage=[2, 2, 2], **_BATCH_NORM),
    "swin": _own_block(
        "swin_unetr.SwinUNETR", feature_size=12, depths=[2, 1, 1, 1], num_heads=[1, 2, 3, 4], window_size=2
    ),
}
# Networks that get the smaller tests of test_networks.py only.
SMOKE_ARCHITECTURES = {
    "seg_resnet": _own_block("seg_resnet.SegResNet", init_filters=8, blocks_down=[1, 1, 2], blocks_up=[1, 1]),
    "basic_unet": _own_block("basic_unet.BasicUNet", features=[4, 4, 8, 8, 16, 4]),
    "genesis": _own_block("genesis_unet.GenesisUNet", base_features=8),
}
_ALL_ARCHITECTURES = {**ARCHITECTURES, **SMOKE_ARCHITECTURES}


class Layer(NamedTuple):
    """A layer as a matrix of shape (rows, columns), the way LoRA reads it, and what else belongs to it.

    Attributes:
        part: "encoder", "decoder", or "skip" for what is neither.
        outputs: output channels.
        kernel: voxels of the kernel; 1 for a linear layer.
        transposed: it is a transposed convolution, whose rows are its inputs.
        bias: it has a bias.
        norm: a norm with scale and shift is behind it.
        linear: it is no convolution.
        layer_norm: width of the layer norm in front of it, which has a scale and a shift, too.
        table: entries of the relative position table beside it; only query-key-value projections have one.
    """

    part: str
    rows: int
    columns: int
    outputs: int
    kernel: int = 1
    transposed: bool = False
    bias: bool = True
    norm: bool = True
    linear: bool = False
    layer_norm: int = 0
    table: int = 0

    @property
    def inputs(self) -> int:
        """Input channels."""
        return self.rows if self.transposed else self.columns // self.kernel

    @property
    def parameters(self) -> int:
        """Weight, bias, the scales and shifts of the norms, and the relative position table."""
        own = self.rows * self.columns + self.outputs * (self.bias + 2 * self.norm)
        return own + 2 * self.layer_norm + self.table


def _conv(part: str, outputs: int, inputs: int, kernel: int = 27, **kwargs: bool) -> Layer:
    return Layer(part, outputs, inputs * kernel, outputs, kernel, **kwargs)


def _transposed(outputs: int, inputs: int, **kwargs: bool) -> Layer:
    return Layer("decoder", inputs, outputs * 8, outputs, 8, transposed=True, norm=False, **kwargs)


def _linear(outputs: int, inputs: int, *, bias: bool = True, layer_norm: int = 0, table: int = 0) -> Layer:
    norms = {"norm": False, "layer_norm": layer_norm, "table": table}
    return Layer("encoder", outputs, inputs, outputs, bias=bias, linear=True, **norms)  # type: ignore[arg-type]


def _attention(channels: int, heads: int) -> list[Layer]:
    """Window attention in windows of 2^3 tokens, which lie -1, 0 or 1 apart along each axis, and its MLP."""
    return [
        _linear(3 * channels, channels, layer_norm=channels, table=3**3 * heads),
        _linear(channels, channels),
        _linear(4 * channels, channels, layer_norm=channels),
        _linear(channels, 4 * channels),
    ]


def _merging(channels: int) -> Layer:
    return _linear(2 * channels, 8 * channels, bias=False, layer_norm=8 * channels)


def _residual(part: str, outputs: int, inputs: int) -> list[Layer]:
    """MONAI's residual block: norms without parameters, and a 1x1x1 convolution where the channels change."""
    plain = {"bias": False, "norm": False}
    layers = [_conv(part, outputs, inputs, **plain), _conv(part, outputs, outputs, **plain)]
    return layers if inputs == outputs else [*layers, _conv(part, outputs, inputs, kernel=1, **plain)]


def _up(outputs: int, inputs: int) -> list[Layer]:
    """MONAI's up block: transposed convolution, concatenation with as many channels, residual block."""
    return [_transposed(outputs, inputs, bias=False), *_residual("decoder", outputs, 2 * outputs)]


_DECODER = [
    _transposed(8, 16),
    _conv("decoder", 8, 16),
    _transposed(4, 8),
    _conv("decoder", 4, 8),
]
_PLAIN = [
    *(_conv("encoder", o, i) for o, i in [(4, 1), (4, 4), (8, 4), (8, 8), (16, 8), (16, 16)]),
    *_DECODER,
]
# Written down by hand from the architecture, not read off the modules: closed forms are computed from these.
LAYERS = {
    "plain": _PLAIN,
    "residual": [
        _conv("encoder", 4, 1),
        *(_conv("encoder", o, i) for o, i in [(4, 4), (4, 4), (8, 4), (8, 8), (16, 8), (16, 16)]),
        *(_conv("encoder", o, i, kernel=1, bias=False) for o, i in [(8, 4), (16, 8)]),
        *_DECODER,
    ],
    "plain_batch_norm": _PLAIN,
    "swin": [
        _conv("encoder", 12, 1, kernel=8, norm=False),
        *_attention(12, heads=1),
        *_attention(12, heads=1),
        _merging(12),
        *_attention(24, heads=2),
        _merging(24),
        *_attention(48, heads=3),
        _merging(48),
        *_attention(96, heads=4),
        _merging(96),
        *(layer for o, i in [(12, 1), (12, 12), (24, 24), (48, 48), (192, 192)] for layer in _residual("skip", o, i)),
        *(layer for o, i in [(96, 192), (48, 96), (24, 48), (12, 24), (12, 12)] for layer in _up(o, i)),
    ],
}


class BlockOf(NamedTuple):
    """A block next to which adapters sit."""

    part: str
    inputs: int
    outputs: int
    attention: bool = False


_DECODER_BLOCKS = [BlockOf("decoder", 16, 8), BlockOf("decoder", 8, 4)]
_PLAIN_BLOCKS = [
    *(BlockOf("encoder", i, o) for o, i in [(4, 1), (4, 4), (8, 4), (8, 8), (16, 8), (16, 16)]),
    *_DECODER_BLOCKS,
]
BLOCKS = {
    "plain": _PLAIN_BLOCKS,
    "residual": [*(BlockOf("encoder", i, o) for o, i in [(4, 1), (4, 4), (8, 4), (16, 8)]), *_DECODER_BLOCKS],
    "plain_batch_norm": _PLAIN_BLOCKS,
    "swin": [
        *(BlockOf("encoder", c, c, attention=True) for c in (12, 12, 24, 48, 96)),
        *(BlockOf("skip", i, o) for o, i in [(12, 1), (12, 12), (24, 24), (48, 48), (192, 192)]),
        *(BlockOf("decoder", i, o) for o, i in [(96, 192), (48, 96), (24, 48), (12, 24), (12, 24)]),
    ],
}
HEAD_PARAMETERS = STRUCTURES * (4 + 1)
UNUSED_HEAD_PARAMETERS = STRUCTURES * (8 + 1)


def head_parameters(kind: str) -> int:
    """Return the number of parameters of the full-resolution head."""
    return STRUCTURES * (12 + 1) if kind == "swin" else HEAD_PARAMETERS


def tiny_network(kind: str, seed: int = 0, *, deep_supervision: bool = False) -> nn.Module:
    """Build a network, moved off its initialisation (norms 1 or 0, biases 0) as a pretraining would."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(
            _ALL_ARCHITECTURES[kind],
            input_channels=1,
            output_channels=STRUCTURES,
            deep_supervision=deep_supervision,
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for norm in network.modules():
                if isinstance(norm, nn.BatchNorm3d) and norm.track_running_stats:
                    norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
                    norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
                if isinstance(norm, nn.InstanceNorm3d | nn.BatchNorm3d) and norm.affine:
                    norm.weight.add_((norm.weight.abs() < 0.5).to(norm.weight))  # residual branches start at zero
    return network.eval()


def image_size(network: nn.Module) -> tuple[int, int, int]:
    """Return the smallest extents on which every layer of a tiny network has something to do.

    Swin UNETR halves five times. At 64 x 64 x 32 the bottom has four voxels: an instance norm refuses one, and of two
    it makes +1 and -1 whatever they are, so that nothing in front of it has a gradient. All but the last stage have
    several windows, which shift. BasicUNet halves four times.
    """
    return {"SwinUNETR": (64, 64, 32), "BasicUNet": (32, 32, 16)}.get(type(network).__name__, (16, 16, 16))


def image(seed: int = 1, size: int | tuple[int, int, int] = 16, batch: int = 2) -> Tensor:
    """Return a random batch; `size` is an edge, or the extents along z, y, x."""
    extents = (size, size, size) if isinstance(size, int) else size
    return torch.randn(batch, 1, *extents, generator=torch.Generator().manual_seed(seed))


def image_for(network: nn.Module, seed: int = 1) -> Tensor:
    """Return a random batch for a network: of two, but of one where the extents are large already."""
    size = image_size(network)
    return image(seed, size, batch=2 if max(size) == 16 else 1)


def biases_before_norm(network: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the convolution biases that the norm right behind them takes out again.

    nnU-Net's block keeps its operations in order in `all_modules`. InstanceNorm, and BatchNorm in training
    mode, subtract the mean over a channel, which contains the bias: the output does not depend on it, and its
    gradient is rounding error.
    """
    for block in network.modules():
        for first, second in itertools.pairwise(getattr(block, "all_modules", [])):
            takes_mean_out = isinstance(second, nn.InstanceNorm3d) or (
                isinstance(second, nn.BatchNorm3d) and any(p.requires_grad for p in second.parameters())
            )
            if isinstance(first, nn.Conv3d) and first.bias is not None and takes_mean_out:
                yield first.bias
