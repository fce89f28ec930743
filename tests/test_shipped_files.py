"""Every shipped plans file builds its network."""

from pathlib import Path

import pytest
import torch

from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.plans_network import network_of_plans

REPOSITORY = Path(__file__).resolve().parents[1]
PLANS = sorted((REPOSITORY / "plans").glob("*.json"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_shipped_plans_build_a_network_that_takes_their_patch(path: Path) -> None:
    plans = read_plans_file(path)
    dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": [1, 1]}, "regions_class_order": [1]}
    network = network_of_plans(plans, CONFIGURATION, dataset_json, output_channels=3)
    patch_size = plans["configurations"][CONFIGURATION]["patch_size"]
    with torch.no_grad():  # on the meta device, because some patches are too large for small machines
        logits = network.to("meta")(torch.zeros(1, 1, *patch_size, device="meta"))
    assert logits.shape == (1, 3, *patch_size)
    assert plans["plans_name"] == path.stem
    assert plans["description"]
