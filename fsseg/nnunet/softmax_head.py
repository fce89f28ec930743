"""A network that learned a softmax over what each case annotates, as the softmax that nnU-Net predicts with.

In the loss background has the logit 0 and no row of the head. nnU-Net expects background as row 0, so the network gets
one of zeros, and its labels are classes instead of regions.
"""

from copy import deepcopy

from torch import Tensor, nn

from fsseg.data.assembly import head_labels
from fsseg.data.contents import DatasetContent
from fsseg.data.structures import Structures
from fsseg.models.heads import BACKGROUND, replace_heads
from fsseg.models.parts import parts_of

_OF_REGIONS = ("labels", "regions_class_order")


def with_classes(dataset_json: DatasetContent, structures: Structures) -> DatasetContent:
    """Return a dataset.json with a class for each structure instead of a region, numbered as the rows of the head."""
    kept = {key: value for key, value in dataset_json.items() if key not in _OF_REGIONS}
    rows: dict[str, tuple[int, ...]] = {name: (row,) for row, name in enumerate(structures.names, start=1)}
    return {**kept, **head_labels(rows, "softmax")}


def with_background(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose heads have a row of zeros before their own."""
    network = deepcopy(network)
    structures = range(parts_of(network).head.out_channels)
    replace_heads(network, [BACKGROUND, *structures], deep_supervision=True)
    return network


def without_background(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the weights that `with_background` was given, of a network like `network`; others stay as they are."""
    rows = {name: tensor.shape[0] for name, tensor in network.state_dict().items() if tensor.dim()}
    return {
        name: tensor[1:] if tensor.dim() and tensor.shape[0] == rows.get(name, 0) + 1 else tensor
        for name, tensor in weights.items()
    }
