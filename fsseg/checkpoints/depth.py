"""nnU-Net's U-Nets of another depth: their decoder counts levels from the deepest, so the same has another number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fsseg.models.networks import ArchitectureBlock

_UNETS = "dynamic_network_architectures.architectures.unet."
_LEVEL = re.compile(r"(decoder\.(?:stages|transpconvs|seg_layers)\.)(\d+)(\..+)")
_STAGE = re.compile(r"(?:decoder\.)?encoder\.stages\.(\d+)\.")


@dataclass(frozen=True)
class Renumbered:
    """Weights under the names of a network of another depth.

    Attributes:
        weights: of the levels that both networks have.
        dropped: tensors of levels that the new network lacks -> why.
        note: what this means; empty where both have the same depth.
    """

    weights: dict[str, Tensor]
    dropped: dict[str, str]
    note: str = ""


def at_depth(weights: Mapping[str, Tensor], old: ArchitectureBlock, new: ArchitectureBlock) -> Renumbered:
    """Return weights of one of nnU-Net's U-Nets under the names of one with another number of stages.

    Encoder stages are numbered from the finest and keep their names. Other networks are returned as they are, and so
    is a U-Net of another class, whose names do not fit.

    Args:
        weights: under the names of the network `old`, aliases included.
        old, new: architecture blocks of plans.
    """
    depths = [block["arch_kwargs"].get("n_stages") for block in (old, new)]
    if not same_unet(old, new) or depths[0] == depths[1]:
        return Renumbered(dict(weights), {})
    deeper = depths[1] - depths[0]
    kept: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for name, tensor in weights.items():
        match, stage = _LEVEL.fullmatch(name), _STAGE.match(name)
        number = int(match[2]) + deeper if match else 0
        if number < 0:
            dropped[name] = "a level of the decoder below the lowest of the plans"
        elif stage and int(stage[1]) >= depths[1]:
            dropped[name] = "a stage of the encoder below the lowest of the plans"
        else:
            kept[f"{match[1]}{number}{match[3]}" if match else name] = tensor
    return Renumbered(kept, dropped, _note(depths[0], depths[1]))


def same_unet(old: ArchitectureBlock, new: ArchitectureBlock) -> bool:
    """Return whether two architecture blocks are of the same one of nnU-Net's U-Nets."""
    return old["network_class_name"] == new["network_class_name"] and old["network_class_name"].startswith(_UNETS)


def _note(old: int, new: int) -> str:
    if new < old:
        return (
            f"The plans have {new} levels, the checkpoint {old}. The decoder's lowest level now reads the encoder,"
            " where it read a level below: it has to be fine-tuned, and the head is not expected to hold before."
        )
    return (
        f"The plans have {new} levels, the checkpoint {old}. The new levels are random, and the decoder's level above"
        " them reads what they return: fine-tune all of it."
    )
