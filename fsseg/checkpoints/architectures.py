"""Architecture blocks of plans: the published networks, with their widths read off the shapes of weights.

What is published as fixed (depths, blocks, heads) is not read off, so that a file with holes has tensors missing
instead of being taken for a smaller network.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fsseg.config.errors import FssegError
from fsseg.models.networks import ArchitectureBlock

_RESENC_L = (1, 3, 4, 6, 6, 6)  # residual blocks of each stage


def genesis_unet(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of a Models Genesis U-Net, from weights under its own names."""
    return _own("genesis_unet.GenesisUNet", base_features=2 * _shape(weights, "down_tr64.ops.0.conv1.weight")[0])


def seg_resnet(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of SuPreM's SegResNet, from weights under MONAI's names."""
    width = _shape(weights, "convInit.conv.weight")[0]
    return _own("seg_resnet.SegResNet", init_filters=width, blocks_down=[1, 2, 2, 4], blocks_up=[1, 1, 1])


def own_seg_resnet(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of any SegResNet, from weights under MONAI's names; what they show is read off them."""
    down = _blocks(weights, r"down_layers\.{}\.(\d+)\.conv1\.", _count(weights, r"down_layers\.(\d+)\."))
    up = [n + 1 for n in _blocks(weights, r"up_layers\.{}\.(\d+)\.conv1\.", _count(weights, r"up_layers\.(\d+)\."))]
    width = _shape(weights, "convInit.conv.weight")[0]
    return _own("seg_resnet.SegResNet", init_filters=width, blocks_down=down, blocks_up=up)


def own_swin_unetr(weights: Mapping[str, Tensor], patch_merging: str) -> ArchitectureBlock:
    """Return the block of any Swin UNETR, from weights under MONAI's names; `patch_merging` is not in them."""
    stages = [f"swinViT.layers{stage}.0.blocks" for stage in range(1, 5)]
    tables = [_shape(weights, f"{stage}.0.attn.relative_position_bias_table") for stage in stages]
    return _own(
        "swin_unetr.SwinUNETR",
        feature_size=_shape(weights, "swinViT.patch_embed.proj.weight")[0],
        depths=[_count(weights, re.escape(stage) + r"\.(\d+)\.") for stage in stages],
        num_heads=[table[1] for table in tables],
        window_size=(round(tables[0][0] ** (1 / 3)) + 1) // 2,  # a table has (2 window - 1)^3 rows
        patch_merging=patch_merging,
    )


def own_basic_unet(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of any BasicUNet, from weights under MONAI's names."""
    levels = ["conv_0.conv_0", *(f"down_{level}.convs.conv_0" for level in range(1, 5)), "upcat_1.convs.conv_0"]
    return _own("basic_unet.BasicUNet", features=[_shape(weights, f"{level}.conv.weight")[0] for level in levels])


def legacy_swin_unetr(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of the published Swin UNETR, trained before MONAI 1.5, from weights under MONAI's names."""
    return _own(
        "swin_unetr.SwinUNETR",
        feature_size=_shape(weights, "swinViT.patch_embed.proj.weight")[0],
        depths=[2, 2, 2, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        patch_merging="legacy",
    )


def plain_unet(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of nnU-Net's plain U-Net, from weights under nnU-Net v2's names.

    Every stage has as many convolutions as the first, as in nnU-Net.
    """
    stages = _count(weights, r"encoder\.stages\.(\d+)\.")
    convolutions = _count(weights, r"encoder\.stages\.0\.0\.convs\.(\d+)\.")
    first = [f"encoder.stages.{stage}.0.convs.0.conv.weight" for stage in range(stages)]
    blocks = {"n_conv_per_stage": [convolutions] * stages, "n_conv_per_stage_decoder": [convolutions] * (stages - 1)}
    return _unet("PlainConvUNet", weights, first, blocks)


def residual_encoder_l(weights: Mapping[str, Tensor]) -> ArchitectureBlock:
    """Return the block of nnU-Net's residual encoder U-Net "L", from weights under nnU-Net v2's names."""
    first = [f"encoder.stages.{stage}.blocks.0.conv1.conv.weight" for stage in range(len(_RESENC_L))]
    blocks = {"n_blocks_per_stage": list(_RESENC_L), "n_conv_per_stage_decoder": [1] * (len(_RESENC_L) - 1)}
    return _unet("ResidualEncoderUNet", weights, first, blocks)


def unlike_residual_encoder_l(weights: Mapping[str, Tensor]) -> str:
    """Say in what an encoder, under nnU-Net v2's names, is not the residual encoder "L"; empty if in nothing."""
    stages = range(_count(weights, r"encoder\.stages\.(\d+)\."))
    found = [_count(weights, rf"encoder\.stages\.{stage}\.blocks\.(\d+)\.") for stage in stages]
    if found == list(_RESENC_L):
        return ""
    expected, got = (", ".join(map(str, blocks)) or "none" for blocks in (_RESENC_L, found))
    return (
        f"The plans known for such files are of ResEncL, whose {len(_RESENC_L)} stages have {expected} residual blocks;"
        f" those of the file have {got}. It is of another architecture, or lacks tensors."
    )


def _unet(
    class_name: str, weights: Mapping[str, Tensor], first: list[str], blocks: dict[str, list[int]]
) -> ArchitectureBlock:
    """Return the block of one of nnU-Net's U-Nets, given the name of the first convolution of each stage."""
    shapes = [_shape(weights, name) for name in first]
    arguments = {
        "n_stages": len(first),
        "features_per_stage": [shape[0] for shape in shapes],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [shape[2:] for shape in shapes],
        "strides": [_stride(weights, stage, len(first)) for stage in range(len(first))],
        **blocks,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.modules.activation.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{class_name}",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _stride(weights: Mapping[str, Tensor], stage: int, stages: int) -> list[int]:
    """Return the stride of a stage: the kernel of the transposed convolution that undoes it; 2 without a decoder."""
    if stage == 0:
        return [1, 1, 1]
    up = weights.get(f"decoder.transpconvs.{stages - 1 - stage}.weight")
    return [2, 2, 2] if up is None else list(up.shape[2:])


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Return one more than the highest number in names that start with a pattern.

    Raises:
        FssegError: it is higher than the file has tensors; a network of such a depth would fill the memory.
    """
    count = 1 + max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)
    if count > len(weights):
        raise FssegError(f"The file numbers its layers up to {count - 1}, with {len(weights)} tensors: it is damaged.")
    return count


def _blocks(weights: Mapping[str, Tensor], pattern: str, stages: int) -> list[int]:
    """Return the highest number of a block in each stage, which is put into a pattern."""
    return [_count(weights, pattern.format(stage)) - 1 for stage in range(stages)]


def _shape(weights: Mapping[str, Tensor], name: str) -> list[int]:
    if name not in weights:
        raise FssegError(f"The file lacks the tensor {name}, by which the size of its network is known: it is damaged.")
    return list(weights[name].shape)


def _own(class_name: str, **arguments: Any) -> ArchitectureBlock:
    return {"network_class_name": "fsseg.models." + class_name, "arch_kwargs": arguments, "_kw_requires_import": []}
