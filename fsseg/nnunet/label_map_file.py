"""Label maps of logits, written by nnU-Net in the geometry of the image."""

from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from torch import Tensor

from fsseg.data.contents import DatasetContent
from fsseg.data.images import require_written
from fsseg.nnunet.contents import CaseProperties
from fsseg.nnunet.image_readers import reader_of
from fsseg.nnunet.quiet import quiet


def write_label_map(
    logits: Tensor,
    properties: CaseProperties,
    out: Path,
    *,
    configuration: Any,
    plans: Any,
    dataset_json: DatasetContent,
    save_probabilities: bool = False,
) -> None:
    """Write the label map of a preprocessed image.

    Args:
        logits: (C, D, H, W) of the preprocessed image.
        properties: of the image, from its preprocessing.
        out: label map to write, with the file ending of dataset.json.
        configuration: nnU-Net's ConfigurationManager.
        plans: nnU-Net's PlansManager.
        dataset_json: the meaning of the C channels.
        save_probabilities: also write them beside it, as nnU-Net does for ensembles.

    Raises:
        FssegError: the label map was not written whole.
    """
    with quiet():
        export_prediction_from_logits(
            logits,
            properties,
            configuration,
            plans,
            dataset_json,
            str(out).removesuffix(dataset_json["file_ending"]),
            save_probabilities,
            num_threads_torch=torch.get_num_threads(),
        )
    require_written(out, reader_of(plans.plans))
