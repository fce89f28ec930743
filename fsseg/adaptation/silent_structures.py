"""Whether an adaptation has learned anything: what it predicts in its support cases, and what is left of its ranks."""

import torch

from fsseg.adaptation.start import Start
from fsseg.data.crops import CropSampler
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.training.placement import mixed_precision


def silent_notes(start: Start) -> list[str]:
    """Say which structures a trained network predicts nowhere in the middle of any support case that shows them.

    Also said is when a method whose ranks shrink has cut all of them.

    Args:
        start: what was trained; the network is on the job's device.
    """
    return [*_vanished(start.network), *_unpredicted(start)]


def _vanished(adapted: AdaptedNetwork) -> list[str]:
    ranks = adapted.method.ranks(adapted.network)
    if not ranks or any(ranks.values()):
        return []
    return [
        f"Nothing is left of the low-rank updates: all {len(ranks)} layers ended at rank 0, so only what is trained"
        " beside them has changed. Try a lower sparsity, or lora."
    ]


def _unpredicted(start: Start) -> list[str]:
    silent = [name for name in start.job.target.names if not _is_predicted(name, start)]
    if not silent:
        return []
    advice = (
        "Try another method."
        if start.job.method.training_free
        else "Look at metrics.jsonl. If the loss still falls, try more steps or higher rates (recipe.max_steps,"
        " recipe.learning_rates, recipe.head_learning_rate), if it has risen, lower ones; or try another method."
    )
    listed = ", ".join(silent)
    return [f"The adapted network predicts nothing of {listed}, not even in the support cases. {advice}"]


def _is_predicted(name: str, start: Start) -> bool:
    job, network, volumes = start.job, start.network.network.eval(), start.volumes
    sampler = CropSampler(volumes, job.patch_size, crop_size=job.patch_size, foreground_probability=1.0)
    channel = job.channel_names.index(name)
    for index, volume in enumerate(volumes):
        if name not in volume.locations:
            continue
        image = torch.from_numpy(sampler.cut(sampler.middle(index, name))[0])[None]
        with torch.no_grad(), mixed_precision(job.device, job.recipe.precision):
            logits = network(image.to(job.device))[0]
        softmax = job.recipe.activation == "softmax"
        if bool((logits.argmax(0) == channel if softmax else logits[channel] > 0).any()):
            return True
    return False
