"""nnU-Net's validation after a training, on annotated structures only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.evaluation.evaluate_predictions import label_or_region_to_key
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from fsseg.config.json_files import write_json
from fsseg.config.results import JsonObject
from fsseg.data.structures import Structures
from fsseg.evaluation.aggregation import CaseRow
from fsseg.evaluation.comparison import compare
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.nnunet.label_map_file import write_label_map
from fsseg.nnunet.preprocessed_case import read_case
from fsseg.nnunet.quiet import quiet

REFERENCE_FOLDER = "gt_segmentations"  # nnU-Net's name for the label maps beside the preprocessed cases
SUMMARY_NAME = "summary.json"
_TOLERANCE_MM = 2.0


def validate(trainer: Any, network: nn.Module, structures: Structures, *, save_probabilities: bool) -> None:
    """Predict the held-out cases of a trainer's fold and write `validation/summary.json`, as nnU-Net lays it out.

    Stock nnU-Net scores what a case does not annotate as if it were background. Here such a (case, structure) pair has
    no score.

    Args:
        trainer: an nnU-Net trainer.
        network: gives logits of the full resolution.
        structures: what the predictions show, and what every case annotates.
        save_probabilities: also save them, as nnU-Net does for ensembles.
    """
    _, cases = trainer.do_split()
    if not cases:
        trainer.print_to_log_file("No case is held out, so there is nothing to validate on.")
        return
    out = Path(trainer.output_folder) / "validation"
    out.mkdir(parents=True, exist_ok=True)
    predictor = _predictor(trainer, network.eval())
    for case in cases:
        image, _, properties = read_case(Path(str(trainer.preprocessed_dataset_folder)), case)
        with quiet():
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(image))).cpu()
        write_label_map(
            logits,
            properties,
            out / f"{case}{trainer.dataset_json['file_ending']}",
            configuration=trainer.configuration_manager,
            plans=trainer.plans_manager,
            dataset_json=trainer.dataset_json,
            save_probabilities=save_probabilities,
        )
    write_json(out / "dataset.json", trainer.dataset_json)
    reference = open_label_folder(Path(str(trainer.preprocessed_dataset_folder_base)) / REFERENCE_FOLDER)
    predicted = open_label_folder(out)
    scored = [case for case in cases if set(reference.annotated(case)) & set(structures.names)]
    if not scored:
        trainer.print_to_log_file("No held-out case annotates what was trained, so there is nothing to score.")
        return
    rows = compare(predicted, reference, scored, structures.names, _TOLERANCE_MM)
    summary = _summary(rows, structures, predicted.files, reference.files)
    write_json(out / SUMMARY_NAME, summary)
    trainer.print_to_log_file("Mean Validation Dice: ", summary["foreground_mean"]["Dice"])


def _predictor(trainer: Any, network: nn.Module) -> nnUNetPredictor:
    axes = trainer.inference_allowed_mirroring_axes
    predictor = nnUNetPredictor(
        use_mirroring=axes is not None,
        perform_everything_on_device=trainer.device.type == "cuda",
        device=trainer.device,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        axes,
    )
    return predictor


def _summary(
    rows: Sequence[CaseRow], structures: Structures, predicted: dict[str, Path], reference: dict[str, Path]
) -> JsonObject:
    keys = {name: label_or_region_to_key(_region(integers)) for name, integers in structures.integers.items()}
    cases = sorted({row.case for row in rows})
    per_case = [
        {
            "prediction_file": str(predicted[case]),
            "reference_file": str(reference[case]),
            "metrics": {keys[row.structure]: _scores(row) for row in rows if row.case == case},
        }
        for case in cases
    ]
    scored = {name: [row.dsc for row in rows if row.structure == name] for name in structures.names}
    mean = {keys[name]: {"Dice": _mean(values)} for name, values in scored.items() if values}
    known = [entry["Dice"] for entry in mean.values() if entry["Dice"] is not None]
    return {"metric_per_case": per_case, "mean": mean, "foreground_mean": {"Dice": _mean(known)}}


def _scores(row: CaseRow) -> dict[str, float | None]:
    return {"Dice": _or_none(row.dsc), "NSD": _or_none(row.nsd), "HD95_mm": _or_none(row.hd95_mm)}


def _region(integers: tuple[int, ...]) -> tuple[int, ...]:
    """Return the integers as dataset.json has them: a single one twice, so that it stays a region."""
    return integers if len(integers) > 1 else integers * 2


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
