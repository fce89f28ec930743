"""Where a pretraining differs from what its recipe was published with."""

from dataclasses import dataclass

from fsseg.config.pretraining import PretrainSettings
from fsseg.nnunet.contents import PlansContent
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


def recipe_notes(recipe: str, settings: PretrainSettings, plans: PlansContent) -> list[str]:
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


def random_start_notes(recipe: str, plans: PlansContent) -> list[str]:
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


def _input_notes(recipe: str, plans: PlansContent) -> list[str]:
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
        f" {window} (shipped plans: {' or '.join(published.plans)}); these plans have"
        f" {_sizes(patch)} at {_sizes(spacing)} mm and intensities {'' if unit else 'not '}scaled to [0, 1]."
    ]


def _sizes(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
