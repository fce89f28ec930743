"""nnU-Net v1: its plain U-Net under nnU-Net v2's names, and the plans that lie beside its weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsseg.checkpoints.architectures import plain_unet
from fsseg.checkpoints.plans import CONFIGURATION, Intensities, NetworkInput, make_plans
from fsseg.config.errors import FssegError
from fsseg.data.plain_pickle import read_plain_pickle
from fsseg.nnunet.normalization import CT_SCHEME, Z_SCORE

FIRST_CONVOLUTION = "conv_blocks_context.0.blocks.0.conv.weight"
# nnU-Net v1's names of normalisations. It knows one more, CT2, which nnU-Net v2 has no equal of.
_SCHEMES = {"CT": CT_SCHEME, "nonCT": Z_SCORE, "noNorm": "NoNormalization"}
_STAGE_ARGUMENT = 5  # of nnU-Net v1's trainers, whose arguments are kept as "init"
_PICKLE_ADVICE = "To import the weights without it, move it away and give --plans where its content is needed."
_DEEPEST = re.compile(r"conv_blocks_context\.(\d+)\.")


@dataclass(frozen=True)
class SidePlans:
    """Plans of nnU-Net v1 that lie beside weights.

    Attributes:
        file: where they are.
        content: the plans, with a stage for every resolution.
        stage: the stage that the weights were trained for, which FILE.pkl says; None if nothing says it.
    """

    file: Path
    content: dict[str, Any]
    stage: int | None

    def notes(self) -> tuple[str, ...]:
        """Say which resolution was taken where the weights may be of another."""
        stages = self.content["plans_per_stage"]
        if self.stage is not None or len(stages) == 1:
            return ()
        return (
            f"{self.file.name} has {len(stages)} resolutions and does not say of which the weights are; the spacing and"
            " patch of the highest are taken, which are wrong for another. The .model.pkl of the weights would say it.",
        )


def is_generic_unet(weights: Mapping[str, Tensor]) -> bool:
    """Return whether weights are those of nnU-Net v1's plain 3D U-Net with transposed convolutions."""
    needed = (FIRST_CONVOLUTION, "tu.0.weight", "seg_outputs.0.weight")
    return all(name in weights for name in needed) and weights[FIRST_CONVOLUTION].ndim == 5


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of nnU-Net v1's Generic_UNet under the names of nnU-Net v2's PlainConvUNet.

    Both networks compute the same (all deep-supervision outputs are equal). Transposed convolutions and heads have no
    bias in v1, and get one of zeros.
    """
    bottleneck = max(int(match[1]) for name in weights if (match := _DEEPEST.match(name)))
    rules = (
        (rf"conv_blocks_context\.{bottleneck}\.(\d+)\.blocks\.0\.", rf"encoder.stages.{bottleneck}.0.convs.\1."),
        (r"conv_blocks_context\.(\d+)\.blocks\.(\d+)\.", r"encoder.stages.\1.0.convs.\2."),
        (r"conv_blocks_localization\.(\d+)\.(\d+)\.blocks\.0\.", r"decoder.stages.\1.convs.\2."),
        (r"tu\.(\d+)\.", r"decoder.transpconvs.\1."),
        (r"seg_outputs\.(\d+)\.", r"decoder.seg_layers.\1."),
    )
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            new, count = re.subn("^" + pattern, replacement, name)
            if count:
                result[new.replace(".instnorm.", ".norm.")] = tensor
                break
        else:
            result[name] = tensor
    for name in [name for name in result if re.match(r"decoder\.(transpconvs|seg_layers)\.\d+\.weight$", name)]:
        outputs = result[name].shape[1 if "transpconvs" in name else 0]
        result.setdefault(name.replace(".weight", ".bias"), torch.zeros(outputs))
    return result


def side_plans(path: Path) -> SidePlans | None:
    """Return the plans of nnU-Net v1 that lie beside a .model file; None if there are none.

    Looked for: FILE.pkl, which holds the plans of its training, then plans.pkl in the folder and in the one above.

    Raises:
        FssegError: a file is there and cannot be read without executing it, or holds no plans.
    """
    info = path.with_name(path.name + ".pkl")
    for file in (info, path.parent / "plans.pkl", path.parent.parent / "plans.pkl"):
        if file.is_file():
            content = read_plain_pickle(file, _PICKLE_ADVICE)
            of_weights = file == info and isinstance(content, dict)
            plans = content.get("plans") if of_weights else content
            if not isinstance(plans, dict) or not isinstance(plans.get("plans_per_stage"), Mapping):
                raise FssegError(f"{file} holds no plans of nnU-Net v1: it lacks plans_per_stage.")
            return SidePlans(file, plans, _stage_of(content.get("init"), plans) if of_weights else None)
    return None


def _stage_of(init: Any, plans: Mapping[str, Any]) -> int | None:
    stage = init[_STAGE_ARGUMENT] if isinstance(init, tuple | list) and len(init) > _STAGE_ARGUMENT else None
    known = type(stage) is int and stage in plans["plans_per_stage"]  # not a bool: True would be stage 1
    return stage if known else None


def plans_from_v1(name: str, description: str, weights: Mapping[str, Tensor], side: SidePlans) -> dict:
    """Return plans as nnU-Net v2 has them, for the resolution that the weights are of, else for the highest.

    Args:
        name: name of the plans.
        description: what the weights are.
        weights: under nnU-Net v2's names.
        side: the plans of nnU-Net v1.

    Raises:
        FssegError: the plans lack what is needed.
    """
    v1 = side.content
    try:
        stage = v1["plans_per_stage"][max(v1["plans_per_stage"]) if side.stage is None else side.stage]
        statistics = v1["dataset_properties"]["intensityproperties"] or {}
        schemes = {channel: _scheme(own) for channel, own in sorted(v1["normalization_schemes"].items())}
        plans = make_plans(
            name,
            description,
            plain_unet(weights),
            NetworkInput(
                spacing=[float(value) for value in stage["current_spacing"]],
                patch=[int(value) for value in stage["patch_size"]],
                intensities=[
                    _intensities(statistics[channel]) if scheme == CT_SCHEME else None
                    for channel, scheme in schemes.items()
                ],
                axes="zyx",
            ),
            batch_size=int(stage["batch_size"]),
        )
        plans["configurations"][CONFIGURATION] |= _normalisation(schemes, v1)
        plans["transpose_forward"] = [int(axis) for axis in v1["transpose_forward"]]
        plans["transpose_backward"] = [int(axis) for axis in v1["transpose_backward"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FssegError(f"{side.file} holds no plans of nnU-Net v1 that can be read: {error!r}") from None
    return plans


def _normalisation(schemes: Mapping[int, str], v1: dict[str, Any]) -> dict[str, list]:
    """Return how images are scaled; where they are cropped bodies, z-scores are those of the voxels that are not 0."""
    masks = [scheme == Z_SCORE and bool(v1["use_mask_for_norm"][channel]) for channel, scheme in schemes.items()]
    return {"normalization_schemes": list(schemes.values()), "use_mask_for_norm": masks}


def _scheme(name: str) -> str:
    if name not in _SCHEMES:
        raise ValueError(f"unknown normalisation {name!r}, allowed: {', '.join(_SCHEMES)}")
    return _SCHEMES[name]


def _intensities(statistics: Mapping[str, float]) -> Intensities:
    return Intensities(
        mean=float(statistics["mean"]),
        std=float(statistics["sd"]),
        low=float(statistics["percentile_00_5"]),
        high=float(statistics["percentile_99_5"]),
    )
