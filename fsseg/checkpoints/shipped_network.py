"""Plans of the network of a family, for what is to be known of it before there is a file."""

from copy import deepcopy
from pathlib import Path

from fsseg.checkpoints.plans import CONFIGURATION
from fsseg.checkpoints.registry import AUTO, load_family
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.planning import read_plans_file


def plans_of_family(name: str) -> PlansContent | None:
    """Return plans with the network, patch and batch of a family's files; None where only a file says them.

    Raises:
        UsageError: there is no family of this name.
    """
    network = None if name == AUTO else load_family(name).network
    if network is None:
        return None
    plans = deepcopy(read_plans_file(Path(network.plans)))
    changes = {"batch_size": network.batch_size, "patch_size": network.patch_size and list(network.patch_size)}
    plans["configurations"][CONFIGURATION] |= {key: value for key, value in changes.items() if value}
    return plans
