"""What a pretraining is going to do: data, network, held-out cases, and what a user should know of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsseg.config.results import JsonObject, plain
from fsseg.pretraining.cost import PretrainingCost
from fsseg.pretraining.job import PretrainJob
from fsseg.pretraining.notes import class_notes, data_notes, fold_notes, process_notes
from fsseg.pretraining.recipe_notes import recipe_notes
from fsseg.pretraining.start import seen_notes

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel


@dataclass(frozen=True)
class PretrainPlan:
    """What is trained on what.

    Attributes:
        dataset: name of the dataset's folder.
        cases: how many it has.
        structures: in channel order.
        patch_size: voxels of a crop, in z, y, x.
        batch_size: crops of a batch, of all processes together.
        base: path, hash and licence of the model that it starts from; None for random weights.
        mirroring_axes: axes that are flipped in training and prediction.
        notes: what a user should know.
        processes: how many train together.
        held_out: cases for validation.
        parameters: of the network.
        steps: optimisation steps in all.
        cost: what it will cost; None unless it was asked for.
    """

    dataset: str
    cases: int
    structures: tuple[str, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    base: dict[str, str] | None
    mirroring_axes: tuple[int, ...]
    notes: tuple[str, ...]
    processes: int
    held_out: tuple[str, ...]
    parameters: int
    steps: int
    cost: PretrainingCost | None = None

    def facts(self) -> JsonObject:
        """Return what a manifest keeps, as plain JSON values."""
        return {name: value for name, value in plain(self).items() if name not in ("steps", "cost")}


def make_plan(job: PretrainJob, trainer: "nnUNetTrainerPartialLabel") -> PretrainPlan:
    """Return what a trainer is going to do."""
    held_out = trainer.do_split()[1]
    return PretrainPlan(
        dataset=job.preprocessed.name,
        cases=len(job.structures.cases),
        structures=job.structures.names,
        patch_size=tuple(job.patch_size),
        batch_size=job.batch_size,
        base=job.base,
        mirroring_axes=job.mirroring_axes,
        notes=tuple(_notes(job, trainer, held_out)),
        processes=trainer.processes.count,
        held_out=tuple(held_out),
        parameters=sum(p.numel() for p in trainer.network.parameters()),
        steps=job.request.settings.steps,
    )


def _notes(job: PretrainJob, trainer: "nnUNetTrainerPartialLabel", held_out: list[str]) -> list[str]:
    request = job.request
    return [
        *recipe_notes(request.recipe, request.settings, job.plans),
        *fold_notes(job.preprocessed, request.fold),
        *job.start_notes,
        *seen_notes(job.seen, held_out),
        *process_notes(trainer.plain_network, trainer.processes.count),
        *class_notes(trainer.dataset_json),
        trainer.flips.reason,
        *data_notes(trainer.structures, held_out),
    ]
