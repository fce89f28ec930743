"""What a user should know about a pretraining before it runs: of its recipe, its data and its processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fsseg.config.pretraining import PretrainSettings
from fsseg.data.structures import CaseAnnotation, Structures, duplicates_of
from fsseg.nnunet.environment import SPLITS_NAME
from fsseg.nnunet.normalization import ranges_beyond_unit
from fsseg.nnunet.planning import CONFIGURATION


@dataclass(frozen=True)
class PublishedInput:
    """What a recipe was published on; patch and spacing (mm) in z, y, x.

    Attributes:
        patch: voxels of a crop.
        spacing: of the images.
        window: in HU, scaled to [0, 1]; None for z-scores.
        plans: the shipped plans that say all this.
    """

    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    window: tuple[int, int] | None
    plans: tuple[str, ...]


_WINDOW = (-175, 250)
PUBLISHED_INPUT = {
    "multitalent": PublishedInput((96, 192, 192), (1.5, 1.0, 1.0), None, plans=("multitalent_unet",)),
    "suprem": PublishedInput(
        (96, 96, 96),
        (1.5, 1.5, 1.5),
        _WINDOW,
        plans=("genesis_unet", "swinunetr_fseft", "seg_resnet"),
    ),
    "fseft": PublishedInput((96, 96, 96), (1.5, 1.5, 1.5), _WINDOW, plans=("swinunetr_fseft",)),
}


# By the class of the network: families of `fsseg import` that recipes were published from.
_PUBLISHED_START = {
    "suprem": {"GenesisUNet": "models_genesis", "SwinUNETR": "swin_btcv"},
    "fseft": {"SwinUNETR": "swin_btcv"},
}


def recipe_notes(recipe: str, settings: PretrainSettings, plans: dict[str, Any]) -> list[str]:
    """Return a sentence for each way in which plans do not go with a recipe, or with its augmentation.

    Args:
        recipe: its name.
        settings: of the training.
        plans: nnU-Net's plans.
    """
    notes = _input_notes(recipe, plans)
    schemes = plans["configurations"][CONFIGURATION]["normalization_schemes"]
    beyond = [words for words in ranges_beyond_unit(schemes, plans) if words]
    if settings.augmentation == "turn_and_shift" and beyond:
        notes.append(
            "turn_and_shift shifts intensities by up to 0.1 and is made for images scaled to [0, 1]; these plans scale"
            f" by {', '.join(beyond)}."
        )
    return notes


def random_start_notes(recipe: str, plans: dict[str, Any]) -> list[str]:
    """Say that a recipe was published with another start than random weights.

    Args:
        recipe: its name.
        plans: of a training that starts from random weights.
    """
    network = plans["configurations"][CONFIGURATION]["architecture"]["network_class_name"].rpartition(".")[2]
    family = _PUBLISHED_START.get(recipe, {}).get(network)
    if family is None:
        return []
    return [
        f"{recipe} was published from pretrained weights (`fsseg import --family {family}`); this training starts from"
        " random ones. Use --checkpoint."
    ]


def fold_notes(preprocessed: Path, fold: str) -> list[str]:
    """Say that nnU-Net's file of folds decides which cases are held out, where the dataset has one."""
    file = preprocessed / SPLITS_NAME
    if fold == "all" or not file.is_file():
        return []
    return [f"{file} decides which cases are held out; validation_share and seed do not."]


def unvalidated(dice: dict[str, float | None], held_out: Sequence[CaseAnnotation]) -> dict[str, str]:
    """Return why a structure has no validation Dice.

    Args:
        dice: structure -> its Dice, None where there is none.
        held_out: what each held-out case annotates.
    """
    annotated = {name for case in held_out for name in case.annotated}
    drawn, absent = "in no validation crop, take more with validation_crops", "annotated in no held-out case"
    return {name: drawn if name in annotated else absent for name, value in dice.items() if value is None}


def process_notes(network: nn.Module, processes: int) -> list[str]:
    """Return what a network does differently where several processes share its batch."""
    if processes == 1 or not any(isinstance(module, nn.BatchNorm3d) for module in network.modules()):
        return []
    return [
        f"The batch norms of this network take the statistics of each process's share of a batch, so {processes}"
        " processes do not have the losses of one."
    ]


def class_notes(dataset_json: dict[str, Any]) -> list[str]:
    """Say that a network has classes, whose integers are not those of the dataset."""
    if "regions_class_order" in dataset_json:
        return []
    return [
        "The loss is a softmax: the run's label maps number the structures by the rows of its head, as its dataset.json"
        " says, and not as the dataset does."
    ]


def data_notes(structures: Structures, held_out: Sequence[str]) -> list[str]:
    """Say what a training takes for granted, and which cases take no part in it.

    Args:
        structures: of the dataset.
        held_out: cases for validation.
    """
    notes = []
    known = [(case.annotated, case.z_extent) for case in structures.cases.values()]
    if all(len(annotated) == len(structures.names) and not extents for annotated, extents in known):
        notes.append("Every structure counts as annotated in every case: what is not labelled is background.")
    left_out = sorted(duplicates_of(held_out, structures.duplicates))
    if left_out:
        notes.append(f"Not trained on, because they are the same image as a held-out case: {', '.join(left_out)}.")
    return notes


def _input_notes(recipe: str, plans: dict[str, Any]) -> list[str]:
    published, block = PUBLISHED_INPUT.get(recipe), plans["configurations"][CONFIGURATION]
    if published is None:
        return []
    spacing, patch = tuple(block["spacing"]), tuple(block["patch_size"])
    unit = not any(ranges_beyond_unit(block["normalization_schemes"], plans))
    if (patch, spacing, unit) == (published.patch, published.spacing, published.window is not None):
        return []
    window = f"{published.window[0]} to {published.window[1]} HU scaled to [0, 1]" if published.window else "z-scores"
    return [
        f"{recipe} was published with patches of {_sizes(published.patch)} at {_sizes(published.spacing)} mm and"
        f" {window} ({' or '.join(f'plans/{name}.json' for name in published.plans)}); these plans have"
        f" {_sizes(patch)} at {_sizes(spacing)} mm and intensities {'' if unit else 'not '}scaled to [0, 1]."
    ]


def _sizes(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
