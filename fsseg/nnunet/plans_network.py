"""The network that nnU-Net plans describe."""

from copy import deepcopy

from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from fsseg.data.contents import DatasetContent
from fsseg.models.networks import build_network
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import PlansContent


def network_of_plans(
    plans: PlansContent,
    configuration: str,
    dataset_json: DatasetContent,
    *,
    output_channels: int,
    deep_supervision: bool = False,
) -> nn.Module:
    """Build the untrained network that plans describe."""
    block = resolved(plans, configuration)["architecture"]
    manager = PlansManager(deepcopy(plans))
    channels = determine_num_input_channels(manager, configuration, dataset_json)
    return build_network(
        block, input_channels=channels, output_channels=output_channels, deep_supervision=deep_supervision
    )
