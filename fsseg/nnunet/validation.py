"""nnU-Net's validation after a training, on annotated structures only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import label_or_region_to_key
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import Tensor

from fsseg.config.manifest import write_json
from fsseg.data.structures import Structures
from fsseg.evaluation.aggregation import CaseRow
from fsseg.evaluation.comparison import compare
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.nnunet.quiet import quiet

REFERENCE_FOLDER = "gt_segmentations"  # nnU-Net's name for the label maps beside the preprocessed cases
SUMMARY_NAME = "summary.json"
_TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class Validation:
    """What a validation needs of a trainer.

    Attributes:
        preprocessed: folder of the preprocessed dataset, with structures.json.
        dataset: opens the preprocessed cases by name.
        structures: of the dataset.
        plans, configuration: managers of the plans.
        dataset_json: says which integers the predictions have.
        predict: (channels, D, H, W) preprocessed image -> logits.
    """

    preprocessed: Path
    dataset: nnUNetBaseDataset
    structures: Structures
    plans: Any
    configuration: Any
    dataset_json: dict[str, Any]
    predict: Callable[[np.ndarray], Tensor]

    def run(self, cases: Sequence[str], out: Path, *, save_probabilities: bool) -> dict[str, Any]:
        """Predict cases into `out` and write summary.json, as nnU-Net lays it out; return its content.

        Stock nnU-Net scores what a case does not annotate as if it were background. Here such a (case, structure) pair
        has no score.
        """
        out.mkdir(parents=True, exist_ok=True)
        for case in cases:
            image, _, _, properties = self.dataset.load_case(case)
            with quiet():
                export_prediction_from_logits(
                    self.predict(np.asarray(image)),
                    properties,
                    self.configuration,
                    self.plans,
                    self.dataset_json,
                    str(out / case),
                    save_probabilities,
                )
        write_json(out / "dataset.json", self.dataset_json)
        predicted, reference = open_label_folder(out), open_label_folder(self.preprocessed / REFERENCE_FOLDER)
        rows = compare(predicted, reference, cases, self.structures.names, _TOLERANCE_MM)
        summary = _summary(rows, self.structures, predicted.files, reference.files)
        write_json(out / SUMMARY_NAME, summary)
        return summary


def _summary(
    rows: Sequence[CaseRow], structures: Structures, predicted: dict[str, Path], reference: dict[str, Path]
) -> dict[str, Any]:
    keys = {name: label_or_region_to_key(_region(integers)) for name, integers in structures.integers.items()}
    cases = sorted({row.case for row in rows})
    per_case = [
        {
            "prediction_file": str(predicted[case]),
            "reference_file": str(reference[case]),
            "metrics": {keys[row.structure]: {"Dice": _or_none(row.dsc)} for row in rows if row.case == case},
        }
        for case in cases
    ]
    scored = {name: [row.dsc for row in rows if row.structure == name] for name in structures.names}
    mean = {keys[name]: {"Dice": _mean(values)} for name, values in scored.items() if values}
    known = [entry["Dice"] for entry in mean.values() if entry["Dice"] is not None]
    return {"metric_per_case": per_case, "mean": mean, "foreground_mean": {"Dice": _mean(known)}}


def _region(integers: tuple[int, ...]) -> tuple[int, ...]:
    """Return the integers as dataset.json has them: a single one twice, so that it stays a region."""
    return integers if len(integers) > 1 else integers * 2


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
