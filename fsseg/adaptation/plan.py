"""The plan of an adaptation: what is trained on what, what it costs, and what a user should know before it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fsseg.adaptation.cost import AdaptationCost
from fsseg.adaptation.notes import start_notes, urgent_notes
from fsseg.adaptation.start import Start
from fsseg.adaptation.support import Support
from fsseg.adaptation.task import Task
from fsseg.adaptation.transductive import transductive_notes
from fsseg.methods.adapted_network import AdaptationReport


@dataclass(frozen=True)
class AdaptPlan:
    """What is trained on what.

    Attributes:
        method, decoder: the method, with its preset, and the decoder choice.
        base: path, hash and licence of the base.
        structures: in channel order, whether the base knows them.
        parameters: counts of what is trained.
        support: the support cases.
        transductive: cases whose images take part in the training, without label maps.
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
    transductive: tuple[str, ...]
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


def make_plan(task: Task, support: Support, start: Start) -> AdaptPlan:
    """Return the plan of a task whose support cases are read and whose network is built."""
    job, known = task.job, task.job.known_rows
    return AdaptPlan(
        method=job.method_name,
        decoder=job.decoder,
        base=job.base.provenance(),
        structures={name: "known" if name in known else "novel" for name in job.target.names},
        parameters=start.network.report(),
        support=task.split.support,
        transductive=task.transductive,
        mirroring_axes=job.flips.axes,
        licence=task.dataset.dataset_json.get("licence", "unknown"),
        urgent=(*support.urgent, *urgent_notes(start), *transductive_notes(task)),
        notes=(*support.notes, *start_notes(start)),
        max_steps=0 if job.method.training_free else job.recipe.for_cases(len(task.split.support)).max_steps,
    )
