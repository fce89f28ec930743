"""List the adaptation methods, or describe one; with plans, what they train on their network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.methods.description import MethodDescription, MethodLine, describe_method, list_methods

if TYPE_CHECKING:
    from torch import nn


def run_methods(plans: Path | None) -> list[MethodLine]:
    """Return every method and preset.

    Args:
        plans: an nnU-Net plans file with the configuration 3d_fullres, on whose network parameters are counted; None
            counts none.

    Raises:
        UsageError: the plans cannot be read, or do not fit their network.

    Example:
        >>> [line.name for line in run_methods(None)][:3]
        ['from_scratch', 'full', 'decoder']
    """
    return list_methods(None if plans is None else _network_without_data(plans))


def run_method(name: str, plans: Path | None) -> MethodDescription:
    """Describe a method or preset.

    Args:
        name: one of those of `run_methods`.
        plans: as of `run_methods`.

    Raises:
        UsageError: there is no such method; the plans cannot be read, or do not fit their network.

    Example:
        >>> [option.name for option in run_method("lora", None).options]
        ['targets', 'rank', 'layers', 'projections', 'alpha']
    """
    return describe_method(name, None if plans is None else _network_without_data(plans))


def _network_without_data(plans: Path) -> nn.Module:
    """Build the network for one structure, then drop its data: two dozen copies of a large one would not fit."""
    from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
    from fsseg.nnunet.plans_network import network_of_plans

    dataset_json = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "structure": [1, 1]},
        "regions_class_order": [1],
    }
    return network_of_plans(read_plans_file(plans), CONFIGURATION, dataset_json, output_channels=1).to("meta")
