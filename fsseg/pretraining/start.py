"""What a pretraining starts from, where that is not a random network: the weights of a base."""

import shlex
from collections.abc import Iterable, Sequence

from torch import nn

from fsseg.checkpoints.base_channels import require_channels
from fsseg.checkpoints.same_architecture import require_same_meaning
from fsseg.config.errors import UsageError, first_of
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.data.channels import channel_names
from fsseg.data.contents import DatasetContent
from fsseg.data.intensity_scale import BOUNDS
from fsseg.data.splits import SUPPORT_KEY
from fsseg.data.structures import STRUCTURES_NAME, load_structures
from fsseg.models.heads import replace_heads, row_sources
from fsseg.models.parts import parts_of
from fsseg.nnunet.configurations import deciding_settings
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import CT_SCHEME, STATISTICS
from fsseg.nnunet.planning import CONFIGURATION
from fsseg.nnunet.plans_network import network_of_plans
from fsseg.pretraining.held_out import held_out_cases
from fsseg.training.seeding import seeded

_NEW_ROW = 0.5  # as a frequency: a logit of zero, as heads of random networks start with
_SHOWN = 3
_SCHEMES = "normalization_schemes"


def require_fits(base: ModelFolder, plans: PlansContent, dataset_json: DatasetContent, dataset: str) -> None:
    """Refuse a base whose weights would not load, or would mean something else, in a training of other plans.

    Args:
        base: the model to start from.
        plans: of the training.
        dataset_json: of its dataset.
        dataset: its name.

    Raises:
        UsageError: another network, or other image channels.
    """
    theirs = channel_names(dataset_json)
    require_channels(base, theirs, dataset, lambda words: f"`fsseg import FILE --channels {words}` makes such a base.")
    remedy = _remedy(base, plans, dataset)
    old, new = (each["architecture"] for each in (base.settings, deciding_settings(plans, CONFIGURATION)))
    classes = [block["network_class_name"].rpartition(".")[2] for block in (old, new)]
    if classes[0] != classes[1]:
        raise UsageError(f"The base is a {classes[0]}, but the plans describe a {classes[1]}.\n  {remedy}")
    require_same_meaning(old, new, remedy)
    different = _different_tensors(base, plans, dataset_json)
    if different:
        raise UsageError(f"The base and the plans describe networks of different sizes: {different}\n  {remedy}")


def start_from(network: nn.Module, base: ModelFolder, names: Sequence[str], seed: int) -> None:
    """Give a network the weights of a base, and the head rows of the structures that the base knows.

    Args:
        network: of the training, filled in place.
        base: the model to start from, for which `require_fits` passed.
        names: structures of the training, in channel order.
        seed: decides the head rows of the others.
    """
    rows = base.head_rows()
    sources, minus = row_sources(
        [rows.get(name) for name in names], [_NEW_ROW] * len(names), base=base.activation, activation="sigmoid"
    )
    pretrained = base.build_network()
    with seeded(seed):
        replace_heads(pretrained, sources, minus, deep_supervision=True)
    network.load_state_dict(pretrained.state_dict())


def start_notes(base: ModelFolder, plans: PlansContent, names: Sequence[str]) -> list[str]:
    """Say which structures start from the head of a base, and how its images differ from those of a training.

    Args:
        base: the model to start from.
        plans: of the training.
        names: its structures.
    """
    known = [name for name in names if name in base.head_rows()]
    notes = [f"Starts from {base.path}, whose head knows {', '.join(known) or 'none of the structures'}."]
    before, now = (_input_of(settings) for settings in (base.settings, deciding_settings(plans, CONFIGURATION)))
    differing = [f"{key} {before[key]} before, {now[key]} now" for key in before if before[key] != now[key]]
    return [*notes, f"The base was made for other images: {'; '.join(differing)}."] if differing else notes


def seen_cases(base: ModelFolder) -> set[str]:
    """Return the cases that a base was trained on, as far as its folder says: support cases, and a pretraining's."""
    seen = set(base.dataset_json.get(SUPPORT_KEY, ()))
    if (base.path / STRUCTURES_NAME).is_file() and (base.path / MANIFEST_NAME).is_file():
        seen |= set(load_structures(base.path).cases) - set(held_out_cases(base.path))
    return seen


def seen_notes(seen: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """Say which held-out cases the base was trained on."""
    both = sorted(set(seen) & set(held_out))
    if not both:
        return []
    return [
        f"The base was trained on held-out cases: {first_of(both, _SHOWN)}. The validation Dice says nothing about new"
        " cases."
    ]


def inherited(dataset_json: DatasetContent, base: ModelFolder) -> DatasetContent:
    """Return the dataset.json of a run that starts from a base: its licence and the cases that it has seen go on."""
    licence = f"{dataset_json.get('licence', 'unknown')}; base: {base.licence}"
    seen = base.dataset_json.get(SUPPORT_KEY)
    return {**dataset_json, "licence": licence, **({SUPPORT_KEY: seen} if seen else {})}


def _remedy(base: ModelFolder, plans: PlansContent, dataset: str) -> str:
    """Say how to train on the plans of a base, without replacing what the dataset has under their name."""
    file, name = shlex.quote(str(base.path / "plans.json")), base.plans["plans_name"]
    if base.configuration != CONFIGURATION:
        return (
            f"Write the base's configuration {base.configuration!r} as {CONFIGURATION!r} into a copy of {file} with"
            f" another plans_name, then: fsseg preprocess --dataset {dataset} --plans COPY"
        )
    if name == plans["plans_name"]:
        return (
            f"Train on the base's own plans, which have the same name as these: give a copy of {file} another"
            f" plans_name, then: fsseg preprocess --dataset {dataset} --plans COPY"
        )
    return (
        f"Train on the base's own plans: fsseg preprocess --dataset {dataset} --plans {file}, then pretrain with"
        f" --plans {name}"
    )


def _different_tensors(base: ModelFolder, plans: PlansContent, dataset_json: DatasetContent) -> str:
    """Return the first tensors, those of heads aside, that the base and the network of plans do not share."""
    network = network_of_plans(plans, CONFIGURATION, dataset_json, output_channels=base.output_channels)
    heads = {id(parameter) for parameter in parts_of(network).heads.parameters()}
    state = network.state_dict(keep_vars=True)
    of_heads = {name for name, tensor in state.items() if id(tensor) in heads}
    shapes = [{name: tuple(tensor.shape) for name, tensor in each.items()} for each in (base.weights, state)]
    names = [name for name in {**shapes[0], **shapes[1]} if name not in of_heads]
    different = [name for name in names if shapes[0].get(name) != shapes[1].get(name)]
    lines = [f"{name} {shapes[0].get(name, 'missing')} and {shapes[1].get(name, 'missing')}" for name in different]
    return first_of(lines, _SHOWN)


def _input_of(settings: PlansContent) -> dict[str, object]:
    """Return what settings say of the images that a network takes, intensities in words."""
    kept = {key: value for key, value in settings.items() if key not in ("architecture", STATISTICS, _SCHEMES)}
    words = []
    for channel, scheme in enumerate(settings[_SCHEMES]):
        values = (settings[STATISTICS] or {}).get(str(channel)) or {}
        low, high, mean, sd = (values.get(key) for key in (*BOUNDS, "mean", "std"))
        words.append(f"{scheme} ({low} to {high} HU, mean {mean}, sd {sd})" if scheme == CT_SCHEME else scheme)
    return {**kept, "intensities": ", ".join(words)}
