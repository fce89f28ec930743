"""The recipes of FSEFT and ARENA.

FSEFT (Silva-Rodriguez et al., Medical Image Analysis 2025) and ARENA (Baklouti et al., MICCAI 2025) take one step for
every support case in an epoch, with six crops of that case, half of them centred on foreground; soft Dice; AdamW
without weight decay; float32; at most 199 epochs of a cosine that would reach zero in epoch 200. From epoch 31 on they
stop when the mean loss of ten epochs fell, over 19 epochs, by less than 0.001 (FSEFT) or 1 % (ARENA). Patch, spacing
and intensity window are those of the base's plans (plans/swinunetr_fseft.json). Their sliding window overlaps by a
quarter, and nothing is mirrored.

The activation is the sigmoid, as theirs is for one structure at a time. On FLARE22 they take a softmax over nine organs
and background, which is `recipe.activation=softmax`.

Seven things differ: the background row of a softmax starts at zero, as in a sigmoid, and not at random; crops that are
not centred on foreground are drawn anywhere, not only on background; of several structures each is drawn equally often
for a crop, not by its size; methods that read the last features only go through a fixed pool of crops (`feature_crops`,
as many of each case) instead of fresh ones; gradients are clipped at a norm of 12, as nnU-Net does; intensities are
clipped before an image is resampled, and not after; and images are cropped to what is not 0, and not to what is above
-175 HU, so that crops drawn anywhere may show air.
"""

from typing import Any

from fsseg.config.errors import unknown_name
from fsseg.config.recipes import Family

RECIPES = ("default", "fseft", "arena")
_RATE_OF_WHOLE_PARTS = 1e-4  # of a tuned decoder, too
_RATES: dict[Family, float] = {"low_rank": 1e-3, "whole_network": _RATE_OF_WHOLE_PARTS, "scratch": _RATE_OF_WHOLE_PARTS}
_OTHER_RATE = 1e-2


def named_recipe(
    name: str, *, family: Family, decoder: str, shots: int, published_rate: float | None = None
) -> dict[str, Any]:
    """Return the settings of a published recipe, or none for "default".

    Args:
        name: one of RECIPES.
        family: of the adaptation method.
        decoder: "frozen" or "tuned".
        shots: number of support cases.
        published_rate: the method's own, where it is not that of its family.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    if name == "default":
        return {}
    rate = published_rate or _RATES.get(family, _OTHER_RATE)
    if decoder == "tuned":
        rate = _RATE_OF_WHOLE_PARTS
    return {
        "loss": "dice",
        "learning_rates": {family: rate},  # one for everything that is trained
        "decoder_learning_rate": rate,
        "head_learning_rate": rate,
        "new_head_rows": "random",
        "batch_size": 6,
        "foreground_probability": 0.5,
        "crop_jitter": 0.0,
        "crops_per_volume": 6,
        "augmentation": "intensity_shift",
        **_schedule(shots),
        "plateau_improvement": 0.001 if name == "fseft" else 0.01,
        "plateau_relative": name == "arena",
        "tile_step_size": 0.75,
        "precision": "float32",
    }


def _schedule(shots: int) -> dict[str, Any]:
    return {
        "schedule": "cosine",
        "made_for_cases": shots,
        "max_steps": 199 * shots,
        "epoch_steps": shots,
        "plateau_first": 31 * shots,
        "plateau_window": 10 * shots,
        "plateau_patience": 19 * shots,
    }
