"""Label maps of an imported head for a labelled dataset, without training: the first check that weights are alive."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fsseg.checkpoints.base_channels import require_channels
from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import write_json
from fsseg.config.progress import Progress
from fsseg.data.assembly import renumbered
from fsseg.data.channels import channel_names
from fsseg.data.intensity_scale import scale_notes
from fsseg.data.structures import SEPARATOR
from fsseg.models.heads import replace_heads
from fsseg.nnunet.environment import dataset_folder, raw_folder
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.prediction import Predictor
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset

FOLDER_NAME = "zero_shot"


@dataclass(frozen=True)
class ZeroShot:
    """A zero-shot check whose inputs have been checked.

    Attributes:
        model: the imported model.
        groups: collection ("" for rows of none) -> structure of the dataset -> row of the head. Each group has label
            maps of its own, which hold nothing else, so that no other structure is painted over them.
        dataset: where images and label maps come from.
        cases: the cases.
        notes: which rows of the head cannot be checked.
    """

    model: ModelFolder
    groups: dict[str, dict[str, int]]
    dataset: RawDataset
    cases: tuple[str, ...]
    notes: tuple[str, ...]

    def folder(self, run: Path, group: str) -> Path:
        """Return where in a run folder the label maps of a group lie."""
        return run / (f"{FOLDER_NAME}_{group}" if group else FOLDER_NAME)


def prepare_zero_shot(model: ModelFolder, dataset_name: str, cases: tuple[str, ...] | None) -> ZeroShot:
    """Check that a model and a dataset have structures in common, before anything is computed.

    Raises:
        UsageError: unknown dataset or case, other channels, no head, a softmax head, or no structure in common.
    """
    dataset = read_raw_dataset(dataset_folder(raw_folder(), dataset_name))
    if not model.has_head:
        raise UsageError("--zero-shot runs an imported head, and no head comes with this file.\n  Leave it out.")
    if model.activation != "sigmoid":
        raise UsageError(
            "--zero-shot runs heads of one sigmoid per structure, and this one is a softmax.\n"
            "  Import without it, then use fsseg predict and fsseg evaluate."
        )
    channels = channel_names(dataset.dataset_json)
    require_channels(model, channels, dataset.path.name, _remedy)
    groups, left_out = _groups(model.structures.names, dataset.structures.names)
    if not groups:
        raise UsageError(
            f"The imported head and {dataset.path.name} have no structure in common.\n"
            f"  head: {', '.join(model.structures.names)}\n  dataset: {', '.join(dataset.structures.names)}"
        )
    require_known("case", cases or (), dataset.cases)
    cases = cases or dataset.cases
    groups, unknown = _annotated(groups, dataset, cases)
    notes = _notes(left_out, f"{dataset.path.name} does not name") + _notes(unknown, "these cases do not annotate")
    return ZeroShot(model, groups, dataset, cases, notes)


def _annotated(
    groups: dict[str, dict[str, int]], dataset: RawDataset, cases: Sequence[str]
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return the groups without the structures that none of the cases annotates, and the names of these.

    Raises:
        UsageError: none is left.
    """
    known = {name for case in cases for name in dataset.structures.annotation(case).annotated}
    kept = {group: {name: row for name, row in rows.items() if name in known} for group, rows in groups.items()}
    unknown = sorted({name for rows in groups.values() for name in rows} - known)
    if not any(kept.values()):
        raise UsageError(f"The cases annotate none of {', '.join(unknown)}.\n  Choose other cases with --cases.")
    return {group: rows for group, rows in kept.items() if rows}, unknown


def segment_zero_shot(check: ZeroShot, network: nn.Module, run: Path, device: torch.device) -> list[str]:
    """Segment the cases; return notes on the images.

    Args:
        check: what to run.
        network: the imported network; its heads are reduced in place to the rows that are needed.
        run: run folder, which gets label maps for each group.
        device: where to compute.
    """
    rows = [row for rows in check.groups.values() for row in rows.values()]
    replace_heads(network, rows)
    labels = check.model.dataset_json_with(
        {check.model.structures.names[row]: (index + 1,) for index, row in enumerate(rows)}
    )
    predictor = Predictor(network, replace(check.model, dataset_json=labels), device)
    with Progress("zero-shot", len(check.cases), "case") as progress:
        for case in progress.over(check.cases):
            image, properties = predictor.preprocessor.image(check.dataset.images(case))
            logits = predictor.logits(image)
            for group, wanted in check.groups.items():
                integers = renumbered(check.dataset.structures, tuple(wanted))
                channels = [rows.index(wanted[structure]) for structure in integers]
                dataset_json = check.model.dataset_json_with(integers)
                out = check.folder(run, group)
                out.mkdir(exist_ok=True)
                write_json(out / "dataset.json", dataset_json)
                file = out / f"{case}{dataset_json['file_ending']}"
                predictor.write(logits[channels], properties, file, dataset_json)
    return scale_notes(predictor.preprocessor.off_scale)


def _groups(rows: Sequence[str], structures: Sequence[str]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return the groups, and the rows of the head that the dataset has no structure for.

    A dataset that was assembled with a channel per dataset has the row's full name (btcv__liver), others what is
    behind the collection (liver).
    """
    groups: dict[str, dict[str, int]] = {}
    left_out = []
    for row, name in enumerate(rows):
        collection, _, short = name.rpartition(SEPARATOR)
        structure = next((each for each in (name, short) if each in structures), None)
        if structure is None:
            left_out.append(name)
        else:
            groups.setdefault(collection, {})[structure] = row
    return groups, left_out


def _notes(left_out: Sequence[str], reason: str) -> tuple[str, ...]:
    return (f"Zero-shot leaves out the rows of the head that {reason}: {', '.join(left_out)}.",) if left_out else ()


def _remedy(channels: str) -> str:
    return f"Import with --channels {channels}, or leave --zero-shot out."
