"""Tiny networks with all that nnU-Net's large ones have: aliased modules, norms, skips, unused heads."""

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


# The architecture block of nnU-Net plans, by kind of network.
ARCHITECTURES = {
    "plain": _block("PlainConvUNet", n_conv_per_stage=[2, 2, 2]),
    "residual": _block("ResidualEncoderUNet", n_blocks_per_stage=[1, 1, 1]),
    "plain_batch_norm": _block("PlainConvUNet", n_conv_per_stage=[2, 2, 2], **_BATCH_NORM),
}


class Layer(NamedTuple):
    """A layer as a matrix of shape (rows, columns), the way LoRA reads it, and what else belongs to it."""

    part: str
    rows: int
    columns: int
    outputs: int
    bias: bool = True
    norm: bool = True

    @property
    def parameters(self) -> int:
        """Weight, bias, and the affine parameters of the norm behind it."""
        return self.rows * self.columns + self.outputs * (self.bias + 2 * self.norm)


def _conv(part: str, outputs: int, inputs: int, kernel: int = 27, **kwargs: bool) -> Layer:
    return Layer(part, outputs, inputs * kernel, outputs, **kwargs)


_DECODER = [
    Layer("decoder", 16, 8 * 8, 8, norm=False),  # transposed: (inputs, outputs * kernel)
    _conv("decoder", 8, 16),
    Layer("decoder", 8, 4 * 8, 4, norm=False),
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
}
HEAD_PARAMETERS = STRUCTURES * (4 + 1)
UNUSED_HEAD_PARAMETERS = STRUCTURES * (8 + 1)


def tiny_network(kind: str, seed: int = 0, *, deep_supervision: bool = False) -> nn.Module:
    """Build a network, moved off its initialisation (norms 1 or 0, biases 0) as a pretraining would."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(
            ARCHITECTURES[kind],
            input_channels=1,
            output_channels=STRUCTURES,
            deep_supervision=deep_supervision,
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for norm in network.modules():
                if isinstance(norm, nn.BatchNorm3d):
                    norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
                    norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
                if isinstance(norm, nn.InstanceNorm3d | nn.BatchNorm3d):
                    norm.weight.add_((norm.weight.abs() < 0.5).to(norm.weight))  # residual branches start at zero
    return network.eval()


def image(seed: int = 1, size: int = 16, batch: int = 2) -> Tensor:
    """Return a random batch."""
    return torch.randn(batch, 1, size, size, size, generator=torch.Generator().manual_seed(seed))


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
