"""Whether plans.json and dataset.json of a model are whole, and belong together."""

from copy import deepcopy
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from fsseg.config.errors import FssegError
from fsseg.data.channels import channel_names
from fsseg.data.contents import DatasetContent
from fsseg.data.dataset_json import checked_dataset_json
from fsseg.nnunet.configurations import require_plain_3d
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.image_readers import require_file_ending
from fsseg.nnunet.plans_content import checked_plans, require_statistics


def checked_contents(
    path: Path, plans: PlansContent, dataset_json: DatasetContent, configuration: str
) -> tuple[PlansContent, DatasetContent]:
    """Return plans and dataset.json with their defaults, checked.

    Args:
        path: the model folder that they are from, or will be in.
        plans: content of plans.json.
        dataset_json: content of dataset.json.
        configuration: name of the nnU-Net configuration.

    Raises:
        UsageError: the plans have no such configuration, or it is none that fsseg runs.
        FssegError: plans or labels cannot be read, or do not belong together.
    """
    file, labels_file = path / "plans.json", path / "dataset.json"
    require_plain_3d(plans, configuration, str(path))
    block = checked_plans(plans, configuration, file)
    require_statistics(plans, block, file)
    plans = {"label_manager": "LabelManager", **plans}  # nnU-Net's default, which it prints for plans without one
    dataset_json = checked_dataset_json(dataset_json, labels_file)
    schemes, channels = block["normalization_schemes"], channel_names(dataset_json)
    if len(schemes) != len(channels):
        raise FssegError(
            f"{file} normalises {len(schemes)} image channel(s), but dataset.json names {len(channels)}:"
            f" {', '.join(channels)}."
        )
    _require_labels(plans, dataset_json, labels_file)
    require_file_ending(plans, dataset_json, labels_file)
    return plans, dataset_json


def _require_labels(plans: PlansContent, dataset_json: DatasetContent, where: Path) -> None:
    try:
        PlansManager(deepcopy(plans)).get_label_manager(dataset_json)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise FssegError(f"{where} is damaged: {error}") from None
