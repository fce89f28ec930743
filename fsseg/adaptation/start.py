"""What a training starts from: the network of a job, its head and its method, and the volumes to train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fsseg.adaptation.base_gaps import left_random
from fsseg.adaptation.job import Job
from fsseg.adaptation.target import frequency
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.models.heads import RANDOM, replace_heads, row_sources
from fsseg.training.seeding import seeded


@dataclass(frozen=True)
class Start:
    """A training before its first step.

    Attributes:
        job: what is adapted, and how.
        network: the base with a new head and the method applied; training changes it in place.
        volumes: what it is trained on.
        queries: unlabelled images (channels, D, H, W) that take part in a transductive training, by case.
    """

    job: Job
    network: AdaptedNetwork
    volumes: Sequence[Volume]
    queries: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases that it is trained on."""
        return tuple(volume.case for volume in self.volumes)

    @property
    def left_random(self) -> list[str]:
        """Tensors of the base that are random, as its import found no weights for them, and that stay so."""
        return left_random(self.job.base, self.network)


def make_start(job: Job, volumes: Sequence[Volume]) -> Start:
    """Build the network, its head and the method, seeded by the job.

    Methods keep the state of a training, so every network gets one of its own, with the options of the job's.

    Args:
        job: what to adapt.
        volumes: to train on; the head rows of novel structures start from the frequencies in them. None, where the
            network is only looked at.

    Raises:
        UsageError: the method is not defined on the base's network.
    """
    rows = [job.target.base_rows[name] for name in job.target.names]
    novel = [
        RANDOM if job.recipe.new_head_rows == "random" else frequency(volumes, job.target, channel)
        for channel in range(len(rows))
    ]
    base = job.base.activation if job.method.uses_pretrained else "sigmoid"  # a new network has no background row
    sources, minus = row_sources(rows, novel, base=base, activation=job.recipe.activation)
    with seeded(job.seed):
        network = job.base.build_network() if job.method.uses_pretrained else job.base.build_untrained_network()
        replace_heads(network, sources, minus)
        return Start(job, AdaptedNetwork(network, type(job.method)(job.method.options), job.decoder), volumes)
