"""The methods with their parameter counts on a network."""

from pathlib import Path
from typing import Any

from fsseg.config.errors import FssegError
from fsseg.methods.registry import METHODS, method_class


def list_methods(plans: Path | None) -> list[dict[str, Any]]:
    """Describe every method; with plans also whether it is defined on their network, and what it trains.

    Args:
        plans: an nnU-Net plans file with the configuration 3d_fullres, or None.

    Returns:
        One mapping a method: name, summary, mergeable, defined, reason, trainable (without the head) and head, for one
        structure. The last four are None without plans.
    """
    rows = []
    for name, entry in METHODS.items():
        method = method_class(name)
        row: dict[str, Any] = {
            "name": name,
            "summary": entry.summary,
            "mergeable": not method.not_merged_because,
            "decoder": list(method.decoder_choices),
        }
        rows.append({**row, **_counts(name, plans)})
    return rows


def _counts(name: str, plans: Path | None) -> dict[str, Any]:
    if plans is None:
        return {"defined": None, "reason": None, "trainable": None, "head": None}
    from fsseg.methods.adapted_network import AdaptedNetwork
    from fsseg.methods.registry import create_method
    from fsseg.nnunet.model_folder import network_of_plans
    from fsseg.nnunet.planning import CONFIGURATION, read_plans_file

    dataset_json = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "structure": [1, 1]},
        "regions_class_order": [1],
    }
    network = network_of_plans(read_plans_file(plans), CONFIGURATION, dataset_json, output_channels=1)
    try:
        report = AdaptedNetwork(network, create_method(name)).report()
    except FssegError as error:
        return {"defined": False, "reason": str(error), "trainable": None, "head": None}
    return {"defined": True, "reason": "", "trainable": report.trainable, "head": report.head}
