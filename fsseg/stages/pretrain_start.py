"""What a pretraining starts from, where that is not a random network: the weights of a base."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fsseg.checkpoints.same_architecture import require_same_meaning
from fsseg.config.errors import UsageError
from fsseg.data.splits import SUPPORT_KEY
from fsseg.models.heads import replace_heads, row_sources
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.planning import CONFIGURATION
from fsseg.stages.base_channels import require_channels
from fsseg.stages.import_report import expectations
from fsseg.training.seeding import seeded

_OF_IMAGES = ("spacing_mm", "axes", "orientation", "intensities")
_NEW_ROW = 0.5  # as a frequency: a logit of zero, as heads of random networks start with


def require_fits(base: ModelFolder, plans: dict[str, Any], dataset_json: dict[str, Any], dataset: str) -> None:
    """Refuse a base whose weights would not load, or would mean something else, in a training of other plans.

    Args:
        base: the model to start from.
        plans: of the training.
        dataset_json: of its dataset.
        dataset: its name.

    Raises:
        UsageError: another network, or other image channels.
    """
    theirs = list(dataset_json["channel_names"].values())
    require_channels(base, theirs, dataset, lambda words: f"`fsseg import FILE --channels {words}` makes such a base.")
    old, new = base.settings["architecture"], resolved(plans, CONFIGURATION)["architecture"]
    if old["network_class_name"] != new["network_class_name"]:
        names = [block["network_class_name"].rpartition(".")[2] for block in (old, new)]
        raise UsageError(f"The base is a {names[0]}, but the plans describe a {names[1]}.\n  {_remedy(base)}")
    require_same_meaning(old, new)


def start_from(network: nn.Module, base: ModelFolder, names: Sequence[str], seed: int) -> None:
    """Give a network the weights of a base, and the head rows of the structures that the base knows.

    Args:
        network: of the training, filled in place.
        base: the model to start from, for which `require_fits` passed.
        names: structures of the training, in channel order.
        seed: decides the head rows of the others.

    Raises:
        UsageError: the networks are not of one size.
    """
    rows = base.head_rows()
    sources, minus = row_sources(
        [rows.get(name) for name in names], [_NEW_ROW] * len(names), base=base.activation, activation="sigmoid"
    )
    pretrained = base.build_network()
    with seeded(seed):
        replace_heads(pretrained, sources, minus)
    try:
        network.load_state_dict(pretrained.state_dict())
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UsageError(
            f"The base and the plans describe networks of different sizes: {first}\n  {_remedy(base)}"
        ) from None


def start_notes(base: ModelFolder, names: Sequence[str]) -> list[str]:
    """Say which structures start from the head of a base."""
    known = [name for name in names if name in base.head_rows()]
    return [f"Starts from {base.path}, whose head knows {', '.join(known) or 'none of the structures'}."]


def input_notes(base: ModelFolder, plans: dict[str, Any], dataset_json: dict[str, Any]) -> list[str]:
    """Say how the images of a training differ from those that the base was trained on."""
    ours = replace(base, plans=plans, dataset_json=dataset_json, configuration=CONFIGURATION)
    before, now = expectations(base), expectations(ours)
    differing = [f"{key} {before[key]} before, {now[key]} now" for key in _OF_IMAGES if before[key] != now[key]]
    return [f"The base was made for other images: {'; '.join(differing)}."] if differing else []


def inherited(dataset_json: dict[str, Any], base: ModelFolder) -> dict[str, Any]:
    """Return the dataset.json of a run that starts from a base: its licence and the cases that it has seen go on."""
    licence = f"{dataset_json.get('licence', 'unknown')}; base: {base.licence}"
    seen = base.dataset_json.get(SUPPORT_KEY)
    return {**dataset_json, "licence": licence, **({SUPPORT_KEY: seen} if seen else {})}


def _remedy(base: ModelFolder) -> str:
    file = shlex.quote(str(base.path / "plans.json"))
    return f"Preprocess the dataset with the base's own: fsseg preprocess --dataset N --plans {file}"
