"""What an adaptation is going to do: support cases read, the network built, and what a user should know of it."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fsseg.adaptation.cost import AdaptationCost, adaptation_cost, memory_warnings
from fsseg.adaptation.notes import start_notes, urgent_notes
from fsseg.adaptation.start import Start, make_start
from fsseg.adaptation.support import ReadSupport, Support, quick_support, read_support
from fsseg.adaptation.task import Task
from fsseg.config.manifest import Manifest
from fsseg.methods.adapted_network import AdaptationReport
from fsseg.nnunet.environment import preprocessed_folder

log = logging.getLogger(__name__)

CACHE_NAME = "fsseg_cache"


@dataclass(frozen=True)
class AdaptPlan:
    """What is trained on what.

    Attributes:
        method, decoder: the method, with its preset, and the decoder choice.
        base: path, hash and licence of the base.
        structures: in channel order, whether the base knows them.
        parameters: counts of what is trained.
        support: the support cases.
        mirroring_axes: axes that are flipped in training and prediction.
        licence: of the dataset.
        urgent: what may be a reason to stop at once.
        notes: what else a user should know.
        max_steps: the most steps that the recipe takes; 0 where the head is set without training.
        cost: what it will cost; None unless it was asked for.
    """

    method: str
    decoder: str
    base: dict[str, str]
    structures: dict[str, Literal["known", "novel"]]
    parameters: AdaptationReport
    support: tuple[str, ...]
    mirroring_axes: tuple[int, ...]
    licence: str
    urgent: tuple[str, ...]
    notes: tuple[str, ...]
    max_steps: int
    cost: AdaptationCost | None = None

    def facts(self) -> dict[str, Any]:
        """Return what a manifest keeps, as plain JSON values."""
        facts = asdict(self)
        for name in ("urgent", "max_steps", "cost"):
            del facts[name]
        return {**facts, "notes": [*self.urgent, *self.notes]}


@dataclass(frozen=True)
class Prepared:
    """A task whose support cases are read and whose network is built.

    Attributes:
        task: what was asked for.
        support: its support cases.
        start: the training before its first step.
        plan: what it is going to do.
        manifest: what it is made from.
    """

    task: Task
    support: Support
    start: Start
    plan: AdaptPlan
    manifest: Manifest


def unannounced(_plan: AdaptPlan) -> None:
    """Say nothing of a plan."""


def prepare(task: Task, announce: Callable[[AdaptPlan], None] = unannounced) -> Prepared:
    """Read the support cases, build the network, and say what is going to be done.

    Args:
        task: what was asked for.
        announce: is told the plan; its urgent notes, and where memory is too small, are logged as warnings.

    Raises:
        UsageError: the method is not defined on the base's network.
        FssegError: a support case cannot be used, or they cannot be learned from.
    """
    prepared = _prepared(task, read_support)
    prepared.manifest.add(**prepared.plan.facts())
    prepared.manifest.add_hashes(prepared.support.hashes)
    for note in [*prepared.plan.urgent, *memory_warnings(prepared.start)]:
        log.warning("%s", note)
    announce(prepared.plan)
    return prepared


def planned(task: Task) -> AdaptPlan:
    """Return what an adaptation is going to do, and to cost, without training; nothing is written.

    Raises:
        UsageError, FssegError: as `prepare`.
    """
    prepared = _prepared(task, quick_support)
    cost = adaptation_cost(
        prepared.start,
        len(task.split.support),
        estimated=task.request.estimate == "loo",
        preprocessing_seconds=prepared.support.preprocessing_seconds,
    )
    return replace(prepared.plan, cost=cost)


def _prepared(task: Task, read: ReadSupport) -> Prepared:
    manifest = Manifest("adapt", task.request.model_dump(mode="json"), task.request.seed)
    support = read(task.job, task.dataset, task.split.support, preprocessed_folder() / CACHE_NAME)
    start = make_start(task.job, support.volumes)
    return Prepared(task, support, start, _plan(task, support, start), manifest)


def _plan(task: Task, support: Support, start: Start) -> AdaptPlan:
    job, known = task.job, task.job.known_rows
    return AdaptPlan(
        method=job.method_name,
        decoder=job.decoder,
        base=job.base.provenance(),
        structures={name: "known" if name in known else "novel" for name in job.target.names},
        parameters=start.network.report(),
        support=task.split.support,
        mirroring_axes=job.flips.axes,
        licence=task.dataset.dataset_json.get("licence", "unknown"),
        urgent=(*support.urgent, *urgent_notes(start)),
        notes=(*support.notes, *start_notes(start)),
        max_steps=0 if job.method.training_free else job.recipe.for_cases(len(task.split.support)).max_steps,
    )
