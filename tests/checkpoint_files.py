"""Files of the containers, keys and shapes of published checkpoints, with random weights and small widths.

No released file is opened here: the key lists are those of the projects' model classes.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks import nets
from torch import Tensor, nn

from fsseg.checkpoints.published import WIDTHS
from fsseg.models.genesis_unet import GenesisUNet
from fsseg.models.networks import build_network

WIDTH = 12  # feature size of the Swin networks; published: 48
GENESIS_WIDTH = 16  # published: 64
SEG_RESNET_WIDTH = 16  # the published one: the file is small
V1_WIDTH = 4  # published: 30
# Files are told from networks of others by the published widths, for which those here stand.
WIDTHS |= {"genesis_unet": GENESIS_WIDTH // 2, "swin_unetr": WIDTH, "multitalent_unet": V1_WIDTH}
UNIVERSAL_CLASSES, FSEFT_CLASSES, REGIONS = 32, 29, 47
RESENC_BLOCKS = [1, 3, 4, 6, 6, 6]


def prefixed(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def without(weights: Mapping[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(beginnings)}


def training_leftovers() -> dict[str, Any]:
    """What SuPreM and CLIP-Driven save beside the weights."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=1e-3)
    parameter.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    return {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "epoch": 800}


def clip_head(pixel_features: int, image_features: int) -> dict[str, Tensor]:
    shapes = {
        "organ_embedding": (UNIVERSAL_CLASSES, 512),
        "precls_conv.0.weight": (pixel_features,),
        "precls_conv.0.bias": (pixel_features,),
        "precls_conv.2.weight": (8, pixel_features, 1, 1, 1),
        "precls_conv.2.bias": (8,),
        "GAP.0.weight": (image_features,),
        "GAP.0.bias": (image_features,),
        "GAP.3.weight": (256, image_features, 1, 1, 1),
        "GAP.3.bias": (256,),
        "controller.weight": (153, 512, 1, 1, 1),
        "controller.bias": (153,),
        "text_to_vision.weight": (256, 512),
        "text_to_vision.bias": (256,),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def genesis_weights(channels: int = 1) -> dict[str, Tensor]:
    """The U-Net of Models Genesis without its head, with the running statistics that its norms store."""
    torch.manual_seed(1)
    weights = without(GenesisUNet(channels, 1, base_features=GENESIS_WIDTH).state_dict(), "heads.")
    for name in [name for name in weights if name.endswith("bn1.weight")]:
        features = weights[name].shape[0]
        weights[name] = torch.rand(features) + 0.5
        weights[name.replace("weight", "bias")] = torch.randn(features)
        weights[name.replace("weight", "running_mean")] = torch.randn(features)
        weights[name.replace("weight", "running_var")] = torch.rand(features)
        weights[name.replace("weight", "num_batches_tracked")] = torch.tensor(1000)
    return weights


def swin_network(classes: int, *, channels: int = 1, downsample: Any = "merging") -> nets.SwinUNETR:
    torch.manual_seed(2)
    return nets.SwinUNETR(in_channels=channels, out_channels=classes, feature_size=WIDTH, downsample=downsample)


def swin_weights(channels: int = 1) -> dict[str, Tensor]:
    """A Swin UNETR without its head."""
    return without(swin_network(1, channels=channels).state_dict(), "out.")


def seg_resnet_weights(classes: int = UNIVERSAL_CLASSES) -> dict[str, Tensor]:
    torch.manual_seed(3)
    network = nets.SegResNet(
        init_filters=SEG_RESNET_WIDTH, out_channels=classes, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)
    )
    return network.state_dict()


def residual_unet_weights(blocks: Sequence[int] = RESENC_BLOCKS) -> dict[str, Tensor]:
    """nnU-Net v2's residual encoder U-Net, with the blocks of "L" unless others are given, aliases included."""
    torch.manual_seed(4)
    stages = len(blocks)
    arguments = {
        "n_stages": stages,
        "features_per_stage": [4, 4, *[8] * (stages - 2)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_blocks_per_stage": list(blocks),
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    block = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    network = build_network(block, input_channels=1, output_channels=1, deep_supervision=True)
    return dict(network.state_dict())


class GenericUNet(nn.Module):
    """The plain U-Net of nnU-Net v1, written from the description of its modules: the reference for the mapping."""

    def __init__(self, outputs: int, base: int = V1_WIDTH, largest: int = 8, channels: int = 1) -> None:
        super().__init__()
        pools = [(2, 2, 2)] * 4 + [(1, 2, 2)]
        widths = [min(base * 2**stage, largest) for stage in range(len(pools) + 1)]
        strides = [(1, 1, 1), *pools]
        inputs = [channels, *widths[:-1]]
        stages = [_Stage(i, o, s, 2) for i, o, s in zip(inputs, widths, strides, strict=True)]
        last = nn.Sequential(_Stage(inputs[-1], widths[-1], strides[-1], 1), _Stage(widths[-1], widths[-1], 1, 1))
        self.conv_blocks_context = nn.ModuleList([*stages[:-1], last])
        deepest_first = list(range(len(pools) - 1, -1, -1))
        self.tu = nn.ModuleList(
            nn.ConvTranspose3d(widths[d + 1], widths[d], pools[d], pools[d], bias=False) for d in deepest_first
        )
        self.conv_blocks_localization = nn.ModuleList(
            nn.Sequential(_Stage(2 * widths[d], widths[d], 1, 1), _Stage(widths[d], widths[d], 1, 1))
            for d in deepest_first
        )
        self.seg_outputs = nn.ModuleList(nn.Conv3d(widths[d], outputs, 1, bias=False) for d in deepest_first)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return logits of all resolutions, highest first."""
        skips = []
        for block in self.conv_blocks_context[:-1]:
            x = block(x)
            skips.append(x)
        x = self.conv_blocks_context[-1](x)
        outputs = []
        for up, block, head in zip(self.tu, self.conv_blocks_localization, self.seg_outputs, strict=True):
            x = block(torch.cat([up(x), skips.pop()], dim=1))
            outputs.append(head(x))
        return outputs[::-1]


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: Any, convolutions: int) -> None:
        super().__init__()
        blocks = [_Block(inputs, outputs, stride)]
        blocks += [_Block(outputs, outputs, 1) for _ in range(convolutions - 1)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: Any) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride, padding=1)
        self.instnorm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        self.lrelu = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lrelu(self.instnorm(self.conv(x)))


def generic_unet(outputs: int, channels: int = 1) -> GenericUNet:
    torch.manual_seed(5)
    network = GenericUNet(outputs, channels=channels)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def v1_content(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The container of nnU-Net v1, with the numpy values that its logs hold."""
    return {
        "epoch": 2000,
        "state_dict": OrderedDict(weights),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "lr_scheduler_state_dict": None,
        "plot_stuff": ([np.float64(1.5)], [np.float32(0.5)], [np.zeros(2)], []),
        "best_stuff": (None, np.float64(0.8), np.float64(0.7)),
        "amp_grad_scaler": {"scale": 65536.0, "growth_tracker": 3},
    }


def v1_plans(spacing: tuple[float, ...] = (2.0, 0.8, 0.8), scheme: str = "CT") -> dict[str, Any]:
    """The part of nnU-Net v1's plans that matters, with its numpy arrays."""
    stage = {"batch_size": 2, "patch_size": np.array([16, 32, 32]), "current_spacing": np.array(spacing)}
    statistics = {"mean": 80.0, "sd": 120.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0, "mn": -1024.0}
    return {
        "plans_per_stage": {0: {**stage, "current_spacing": np.array(spacing) * 2}, 1: stage},
        "normalization_schemes": OrderedDict([(0, scheme)]),
        "use_mask_for_norm": OrderedDict([(0, scheme == "nonCT")]),
        "dataset_properties": {"intensityproperties": OrderedDict([(0, statistics)]) if scheme == "CT" else None},
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "base_num_features": 4,
    }


def adaptation_plan(spacing: list[float] | None) -> dict[str, Any]:
    name = "onemmiso" if spacing else "noresample"
    block = {"spacing": spacing, "spacing_style": name, "patch_size": [160] * 3}
    return {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
        "pretrain_plan": {"configurations": {name: block}},
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": [160, 160, 160],
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"),
        "key_to_lpe": None,
    }


def suprem_unet(file: Path, channels: int = 1) -> None:
    weights = prefixed(genesis_weights(channels), "backbone.") | clip_head(GENESIS_WIDTH, 8 * GENESIS_WIDTH)
    torch.save({"net": prefixed(weights, "module."), **training_leftovers()}, file)


def suprem_swin(file: Path) -> None:
    weights = prefixed(swin_weights(), "backbone.") | clip_head(WIDTH, 16 * WIDTH)
    torch.save({"net": prefixed(weights, "module."), **training_leftovers()}, file)


def clip_driven_swin(file: Path) -> None:
    """The older spelling: no `backbone.`."""
    weights = swin_weights() | clip_head(WIDTH, 16 * WIDTH)
    torch.save({"net": prefixed(weights, "module."), **training_leftovers()}, file)


def suprem_segresnet(file: Path, classes: int = UNIVERSAL_CLASSES) -> None:
    torch.save({"net": prefixed(seg_resnet_weights(classes), "module."), **training_leftovers()}, file)


def fseft(file: Path, head: str = "classifier.") -> None:
    rows = {head + "weight": torch.randn(FSEFT_CLASSES, WIDTH, 1, 1, 1), head + "bias": torch.randn(FSEFT_CLASSES)}
    torch.save(prefixed({**swin_weights(), **rows}, "module."), file)


def fseft_with_head_of_monai(file: Path) -> None:
    fseft(file, head="out.conv.conv.")


def multitalent_v1(file: Path) -> None:
    torch.save(v1_content(generic_unet(REGIONS).state_dict()), file)


def nnunet_v1(file: Path) -> None:
    torch.save(v1_content(generic_unet(3).state_dict()), file)
    info = {"init": ("plans.pkl", 0), "name": "nnUNetTrainerV2", "class": "<class 'T'>", "plans": v1_plans()}
    file.with_name(file.name + ".pkl").write_bytes(pickle.dumps(info))


def multitalent_v2(file: Path, stems: Mapping[str, int] | None = None, blocks: Sequence[int] = RESENC_BLOCKS) -> None:
    weights = without(residual_unet_weights(blocks), "decoder.seg_layers.")
    for dataset in ("003", "017_0"):
        for scale in range(5):
            weights[f"decoder.seg_layers.{dataset}.{scale}.weight"] = torch.randn(3, 8, 1, 1, 1)
            weights[f"decoder.seg_layers.{dataset}.{scale}.bias"] = torch.randn(3)
    for stem, channels in (stems or {}).items():
        for name in [name for name in weights if "encoder.stem.convs." in name]:
            tensor = weights[name]
            if tensor.ndim == 5:
                tensor = torch.cat([tensor] * channels, dim=1) + len(stem) + channels
            weights[name.replace("stem.", f"stem.{stem}.")] = tensor
    if stems:
        weights = {name: tensor for name, tensor in weights.items() if "encoder.stem.convs." not in name}
    torch.save({"network_weights": weights, "trainer_name": "MultiTalent_trainer", "current_epoch": 4000}, file)


def nnssl(
    file: Path,
    spacing: list[float] | None = [1.0, 1.0, 1.0],  # noqa: B006 - not changed
    blocks: Sequence[int] = RESENC_BLOCKS,
) -> None:
    content = {"network_weights": residual_unet_weights(blocks), "citations": [], "trainer_name": "MAE"}
    torch.save({**content, "nnssl_adaptation_plan": adaptation_plan(spacing)}, file)


def nnssl_spark(file: Path, *, released: bool = False) -> dict[str, Tensor]:
    """SparK's own save, or what a release makes of it; returns the weights that ran, under both names of a layer.

    Its trainer replaces the layers of the encoder, each name by a layer of its own, and only those in all_modules run.
    """
    ran = residual_unet_weights()
    weights = {
        name: tensor if "encoder." not in name or ".all_modules." in name else torch.randn_like(tensor)
        for name, tensor in ran.items()
    }
    for name in [name for name in weights if name.startswith("encoder.")]:
        weights[f"decoder.{name}"] = weights[name]
    content = {"network_weights": weights, "trainer_name": "SparkMAETrainer_BS8"}
    if released:
        torch.save({**content, "nnssl_adaptation_plan": adaptation_plan([1.0, 1.0, 1.0])}, file)
    else:
        own = {**prefixed(weights, "architecture."), "mask_token": torch.zeros(1, 8, 1, 1, 1)}
        torch.save({**content, "spark_weights": own, "optimizer_state": {}, "current_epoch": 1000}, file)
    return ran


def models_genesis(file: Path, rows: int = 1) -> None:
    head = {
        "out_tr.final_conv.weight": torch.randn(rows, GENESIS_WIDTH, 1, 1, 1),
        "out_tr.final_conv.bias": torch.randn(rows),
    }
    weights = prefixed({**genesis_weights(), **head}, "module.")
    torch.save({"epoch": 620, "state_dict": weights, "optimizer_state_dict": {"state": {}}}, file)


def swin_btcv(file: Path) -> None:
    state = swin_network(14).state_dict()
    torch.save({"epoch": 5000, "best_acc": np.float64(0.82), "state_dict": state}, file)


def encoder_of_swin() -> dict[str, Tensor]:
    """The Swin encoder under its bare names."""
    weights = {n.removeprefix("swinViT."): t for n, t in swin_weights().items() if n.startswith("swinViT.")}
    return {**weights, "norm.weight": torch.ones(16 * WIDTH), "norm.bias": torch.zeros(16 * WIDTH)}


def swin_ssl(file: Path) -> None:
    weights = {n.replace("mlp.linear", "mlp.fc"): t for n, t in encoder_of_swin().items()}
    heads = {
        "rotation_head.weight": torch.randn(4, 16 * WIDTH),
        "contrastive_head.weight": torch.randn(512, 16 * WIDTH),
        "conv.0.weight": torch.randn(8, 16 * WIDTH, 3, 3, 3),
    }
    torch.save({"state_dict": prefixed({**weights, **heads}, "module."), "epoch": 1}, file)


def swin_dae(file: Path) -> None:
    doubled = {}
    for name, tensor in encoder_of_swin().items():
        stage, _, rest = name.partition(".0.")
        doubled[f"encoder.{stage}.0.0.{rest}" if name.startswith("layers") else f"encoder.{name}"] = tensor
    others = {"encoder.mask_token": torch.zeros(1, WIDTH), "out.conv.conv.weight": torch.randn(1, WIDTH, 1, 1, 1)}
    torch.save({"model": {**doubled, **others}}, file)


def nnunet_file(file: Path, plans: dict[str, Any], channel: str = "CT") -> Path:
    """A checkpoint as stock nnU-Net leaves it, with plans and labels in it."""
    block = plans["configurations"]["3d_fullres"]["architecture"]
    torch.manual_seed(1)
    network = build_network(block, input_channels=1, output_channels=3, deep_supervision=True)
    labels = {"background": 0, "liver": 1, "stomach": 2}
    dataset_json = {"channel_names": {"0": channel}, "labels": labels, "file_ending": ".nii.gz"}
    arguments = {"plans": deepcopy(plans), "configuration": "3d_fullres", "dataset_json": dataset_json}
    torch.save({"network_weights": network.state_dict(), "init_args": arguments}, file)
    return file


# Family -> how a file of it is written. Two spellings of one family have two entries.
WRITERS: dict[str, Callable[[Path], None]] = {
    "suprem_unet": suprem_unet,
    "suprem_swin": suprem_swin,
    "suprem_swin:clip_driven": clip_driven_swin,
    "suprem_segresnet": suprem_segresnet,
    "fseft": fseft,
    "fseft:monai": fseft_with_head_of_monai,
    "multitalent_v1": multitalent_v1,
    "multitalent_v2": multitalent_v2,
    "nnssl": nnssl,
    "models_genesis": models_genesis,
    "nnunet_v1": nnunet_v1,
    "swin_ssl": swin_ssl,
    "swin_btcv": swin_btcv,
    "swin_dae": swin_dae,
}
