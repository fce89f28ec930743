"""The methods with their parameter counts on a network."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsseg.config.errors import FssegError
from fsseg.methods.registry import create_method, method_entry, method_names, preset_options

if TYPE_CHECKING:
    from torch import nn


def list_methods(plans: Path | None) -> list[dict[str, Any]]:
    """Describe every method; with plans also whether it is defined on their network, and what it trains.

    Args:
        plans: an nnU-Net plans file with the configuration 3d_fullres, or None.

    Returns:
        One mapping a method or preset: name, summary, options (of a preset), mergeable, decoder, defined, reason,
        notes, trainable (without the head) and head, for one structure. The last five are None without plans.
    """
    network = None if plans is None else _network_without_data(plans)
    rows = []
    for name in method_names():
        entry = method_entry(name)
        row: dict[str, Any] = {
            "name": name,
            "summary": entry.summary,
            "options": dict(preset_options(name)),
            "mergeable": entry.merges,
            "decoder": list(entry.decoder),
        }
        rows.append({**row, **_counts(name, network)})
    return rows


def counts_on_plans(name: str, plans: Path | None) -> dict[str, Any]:
    """Return what `list_methods` says of one method on the network of plans."""
    return _counts(name, None if plans is None else _network_without_data(plans))


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


def _counts(name: str, network: nn.Module | None) -> dict[str, Any]:
    if network is None:
        return dict.fromkeys(("defined", "reason", "notes", "trainable", "head"))
    from fsseg.methods.adapted_network import AdaptedNetwork

    try:
        adapted = AdaptedNetwork(deepcopy(network), create_method(name))
    except FssegError as error:
        return {"defined": False, "reason": str(error), "notes": [], "trainable": None, "head": None}
    report = adapted.report()
    counts = {"trainable": report.trainable, "head": report.head}
    return {"defined": True, "reason": "", "notes": adapted.notes, **counts}
