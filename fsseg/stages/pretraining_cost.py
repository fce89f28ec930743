"""What a pretraining will cost, measured on two steps with made-up crops: seconds, memory, disk."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsseg.config.json_files import read_json
from fsseg.config.pretraining import PretrainSettings
from fsseg.data.structures import load_structures
from fsseg.models.networks import supports_deep_supervision
from fsseg.training.cost import measure_step, mib_of
from fsseg.training.losses import PUBLISHED_LOSSES, deep_supervision_loss
from fsseg.training.placement import place
from fsseg.training.step import gradient_scaler, optimisation_step


def pretraining_cost(
    plans: dict[str, Any], preprocessed: Path, settings: PretrainSettings, device: torch.device, batch_size: int
) -> dict[str, float]:
    """Return seconds a step, hours in all, memory of this process and disk in MiB.

    Data loading is not part of it: enough `workers` hide it; nor is what several processes send to each other, each of
    which takes `batch_size` crops. Gradients of all decoder stages are computed as in the training. Disk is the
    preprocessed data, and the checkpoints while one replaces another.
    """
    from fsseg.nnunet.model_folder import network_of_plans
    from fsseg.nnunet.planning import CONFIGURATION

    block = plans["configurations"][CONFIGURATION]
    dataset_json = read_json(preprocessed / "dataset.json")
    channels = len(load_structures(preprocessed).names)
    deep = supports_deep_supervision(block["architecture"])
    network = network_of_plans(plans, CONFIGURATION, dataset_json, output_channels=channels, deep_supervision=deep)
    place(network, device).train()
    image = torch.randn(batch_size, len(dataset_json["channel_names"]), *block["patch_size"], device=device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-6)
    scaler = gradient_scaler(device)
    loss = PUBLISHED_LOSSES[settings.loss]

    def compute_loss() -> Tensor:
        logits = network(image) if deep else [network(image)]
        everywhere = [torch.ones_like(level, dtype=torch.bool) for level in logits]
        return deep_supervision_loss(loss, logits, everywhere, everywhere)

    def step() -> None:
        optimisation_step(
            compute_loss, optimizer=optimizer, parameters=network.parameters(), device=device, scaler=scaler
        )

    cost = measure_step(network, compute_loss, step, device)
    seconds = cost.seconds * settings.accumulate
    data = sum(file.stat().st_size for file in preprocessed.rglob("*") if file.is_file()) / 2**20
    of_a_checkpoint = 3 + (settings.ema is not None)  # weights, two moments, averaged weights
    return {
        "seconds_per_step": round(seconds, 4),
        "hours": round(seconds * settings.steps / 3600, 3),
        "memory_mib": round(cost.memory_mib, 1),
        "preprocessed_mib": round(data, 1),
        "checkpoints_mib": round(2 * of_a_checkpoint * mib_of(network.parameters()), 1),
    }
