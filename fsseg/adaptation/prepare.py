"""From a task to the training before its first step: support cases read, the network built, the plan announced."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from fsseg.adaptation.cost import adaptation_cost, memory_warnings
from fsseg.adaptation.plan import AdaptPlan, make_plan
from fsseg.adaptation.start import Start, make_start
from fsseg.adaptation.support import ReadSupport, Support, quick_support, read_support
from fsseg.adaptation.task import Task
from fsseg.adaptation.transductive import read_queries
from fsseg.config.manifest import Manifest
from fsseg.nnunet.environment import preprocessed_folder

log = logging.getLogger(__name__)

CACHE_NAME = "fsseg_cache"


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
    queries, hashes = read_queries(task)
    prepared = replace(prepared, start=replace(prepared.start, queries=queries))
    prepared.manifest.add_hashes(hashes)
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
    return Prepared(task, support, start, make_plan(task, support, start), manifest)
