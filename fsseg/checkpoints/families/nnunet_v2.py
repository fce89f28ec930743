"""Any checkpoint of nnU-Net v2: plans and labels are in the file, or in the folder above, as nnU-Net keeps them."""

import re
from pathlib import Path
from typing import Any

from fsseg.checkpoints.container import Checkpoint
from fsseg.checkpoints.family import Asked, Family, Translation
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import read_json
from fsseg.data.channels import channel_names
from fsseg.data.dataset_json import checked_dataset_json
from fsseg.data.splits import SUPPORT_KEY
from fsseg.nnunet.checkpoint_content import checked_checkpoint
from fsseg.nnunet.configurations import require_plain_3d
from fsseg.nnunet.model_folder import RANDOM_KEY
from fsseg.nnunet.plans_content import checked_plans

_LABEL_KEYS = ("labels", "regions_class_order")
_FILES = {"plans": "plans.json", "dataset_json": "dataset.json"}


def _recognises(checkpoint: Checkpoint) -> bool:
    arguments = checkpoint.rest.get("init_args")
    several_heads = any(re.match(r"decoder\.seg_layers\.[^.]+\.\d+\.", name) for name in checkpoint.weights)
    named = isinstance(arguments, dict) and "configuration" in arguments
    return checkpoint.wrapper == "network_weights" and named and not several_heads and not _is_nnssl(checkpoint)


def _is_nnssl(checkpoint: Checkpoint) -> bool:
    return "nnssl_adaptation_plan" in checkpoint.rest or "spark_weights" in checkpoint.rest


def _translate(checkpoint: Checkpoint, asked: Asked) -> Translation:
    known = checked_checkpoint({**checkpoint.rest, "network_weights": checkpoint.weights}, checkpoint.path)
    configuration = known.init_args.configuration
    (plans, of_plans), (dataset_json, of_dataset) = _content(checkpoint, "plans"), _content(checkpoint, "dataset_json")
    dataset_json = checked_dataset_json({"file_ending": ".nii.gz", **dataset_json}, of_dataset)
    require_plain_3d(plans, configuration, "The checkpoint")
    checked_plans(plans, configuration, of_plans)
    return Translation(
        dict(checkpoint.weights),
        {},
        plans,
        channel_names=channel_names(dataset_json, of_dataset),
        labels={key: dataset_json[key] for key in _LABEL_KEYS if key in dataset_json},
        configuration=configuration,
        mirroring_axes=known.inference_allowed_mirroring_axes or None,
        file_ending=dataset_json["file_ending"],
        licence=str(dataset_json.get("licence", "unknown")),
        random=tuple(dataset_json.get(RANDOM_KEY, ())),
        carried={SUPPORT_KEY: dataset_json[SUPPORT_KEY]} if SUPPORT_KEY in dataset_json else {},
        inputs=tuple(_beside(checkpoint, argument) for argument in _FILES if not _inside(checkpoint, argument)),
    )


def _content(checkpoint: Checkpoint, argument: str) -> tuple[dict[str, Any], str]:
    """Return what the checkpoint holds as an argument of its trainer, or else the file beside it; and what that is."""
    content = checkpoint.rest["init_args"].get(argument)
    file = _beside(checkpoint, argument)
    if _inside(checkpoint, argument):
        where = f"the {file.name} of {checkpoint.path}"
        if not isinstance(content, dict):
            raise FssegError(
                f"In {checkpoint.path} the {file.name} is damaged: it is a {type(content).__name__}, not a mapping."
            )
        return content, where
    if not file.is_file():
        raise UsageError(
            f"{checkpoint.path} does not hold its {file.name}, and {file} does not exist.\n"
            "  Keep the file where nnU-Net put it: in fold_X, below the folder with plans.json and dataset.json."
        )
    return read_json(file), str(file)


def _inside(checkpoint: Checkpoint, argument: str) -> bool:
    return checkpoint.rest["init_args"].get(argument) is not None


def _beside(checkpoint: Checkpoint, argument: str) -> Path:
    return checkpoint.path.absolute().parent.parent / _FILES[argument]


FAMILY = Family(
    title="nnU-Net v2 checkpoint",
    recognises=_recognises,
    translate=_translate,
    reference="Isensee et al., Nature Methods 2021 (nnU-Net)",
)
