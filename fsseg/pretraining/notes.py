"""What a user should know about a pretraining before it runs: of its data, its processes and its labels."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fsseg.data.contents import DatasetContent
from fsseg.data.structures import CaseAnnotation, Structures, duplicates_of
from fsseg.nnunet.environment import SPLITS_NAME


def fold_notes(preprocessed: Path, fold: str) -> list[str]:
    """Say that nnU-Net's file of folds decides which cases are held out, where the dataset has one."""
    file = preprocessed / SPLITS_NAME
    if fold == "all" or not file.is_file():
        return []
    return [f"{file} decides which cases are held out; validation_share and seed do not."]


def unvalidated(dice: dict[str, float | None], held_out: Sequence[CaseAnnotation]) -> dict[str, str]:
    """Return why a structure has no validation Dice.

    Args:
        dice: structure -> its Dice, None where there is none.
        held_out: what each held-out case annotates.
    """
    annotated = {name for case in held_out for name in case.annotated}
    drawn, absent = "in no validation crop, take more with validation_crops", "annotated in no held-out case"
    return {name: drawn if name in annotated else absent for name, value in dice.items() if value is None}


def process_notes(network: nn.Module, processes: int) -> list[str]:
    """Return what a network does differently where several processes share its batch."""
    if processes == 1 or not any(isinstance(module, nn.BatchNorm3d) for module in network.modules()):
        return []
    return [
        f"The batch norms of this network take the statistics of each process's share of a batch, so {processes}"
        " processes do not have the losses of one."
    ]


def class_notes(dataset_json: DatasetContent) -> list[str]:
    """Say that a network has classes, whose integers are not those of the dataset."""
    if "regions_class_order" in dataset_json:
        return []
    return [
        "The loss is a softmax: the run's label maps number the structures by the rows of its head, as its dataset.json"
        " says, and not as the dataset does."
    ]


def data_notes(structures: Structures, held_out: Sequence[str]) -> list[str]:
    """Say what a training takes for granted, and which cases take no part in it.

    Args:
        structures: of the dataset.
        held_out: cases for validation.
    """
    notes = []
    known = [(case.annotated, case.z_extent) for case in structures.cases.values()]
    if all(len(annotated) == len(structures.names) and not extents for annotated, extents in known):
        notes.append("Every structure counts as annotated in every case: what is not labelled is background.")
    validated = {structures.annotation(case).source for case in held_out}
    counts = Counter(case.source for case in structures.cases.values() if case.source not in validated)
    if validated and counts:
        of = ", ".join(f"{source} (cases: {count})" for source, count in sorted(counts.items()))
        notes.append(f"No case is held out of these sources, so nothing is validated on them: {of}.")
    left_out = sorted(duplicates_of(held_out, structures.duplicates))
    if left_out:
        notes.append(f"Not trained on, because they are the same image as a held-out case: {', '.join(left_out)}.")
    return notes
