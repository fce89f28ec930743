"""Whether an adaptation has learned anything: what it predicts in its support cases, and what is left of its ranks."""

from collections.abc import Sequence

import torch

from fsseg.adaptation.job import Job
from fsseg.data.crops import CropSampler
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.training.placement import mixed_precision


def silent_notes(job: Job, adapted: AdaptedNetwork, volumes: Sequence[Volume]) -> list[str]:
    """Say which structures a trained network predicts nowhere in the middle of any support case that shows them.

    Also said is when a method whose ranks shrink has cut all of them.

    Args:
        job: what was adapted.
        adapted: the trained network, on the job's device.
        volumes: the support cases.
    """
    return [*_vanished(adapted), *_unpredicted(job, adapted, volumes)]


def _vanished(adapted: AdaptedNetwork) -> list[str]:
    ranks = adapted.method.ranks(adapted.network)
    if not ranks or any(ranks.values()):
        return []
    return [
        f"Nothing is left of the low-rank updates: all {len(ranks)} layers ended at rank 0, so only what is trained"
        " beside them has changed. Try a lower sparsity, or lora."
    ]


def _unpredicted(job: Job, adapted: AdaptedNetwork, volumes: Sequence[Volume]) -> list[str]:
    silent = [name for name in job.target.names if not _is_predicted(name, job, adapted, volumes)]
    if not silent:
        return []
    advice = (
        "Try another method."
        if job.method.training_free
        else "Look at metrics.jsonl. If the loss still falls, try more steps or higher rates (recipe.max_steps,"
        " recipe.learning_rates, recipe.head_learning_rate), if it has risen, lower ones; or try another method."
    )
    listed = ", ".join(silent)
    return [f"The adapted network predicts nothing of {listed}, not even in the support cases. {advice}"]


def _is_predicted(name: str, job: Job, adapted: AdaptedNetwork, volumes: Sequence[Volume]) -> bool:
    sampler = CropSampler(volumes, job.patch_size, crop_size=job.patch_size, foreground_probability=1.0)
    channel = job.channel_names.index(name)
    adapted.network.eval()
    for index, volume in enumerate(volumes):
        if name not in volume.locations:
            continue
        image = torch.from_numpy(sampler.cut(sampler.middle(index, name))[0])[None]
        with torch.no_grad(), mixed_precision(job.device, job.recipe.precision):
            logits = adapted.network(image.to(job.device))[0]
        softmax = job.recipe.activation == "softmax"
        if bool((logits.argmax(0) == channel if softmax else logits[channel] > 0).any()):
            return True
    return False
