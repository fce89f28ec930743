"""The recipes of FSEFT, of its first version, and of ARENA.

FSEFT (Silva-Rodriguez et al., Medical Image Analysis 2025) and ARENA (Baklouti et al., MICCAI 2025) take one step for
every support case in an epoch, with six crops of that case, half of them centred on foreground; soft Dice; AdamW
without weight decay; float32; at most 199 epochs of a cosine that would reach zero in epoch 200. From epoch 31 on they
stop when the mean loss of ten epochs fell, over 19 epochs, by less than 0.001 (FSEFT) or 1 % (ARENA). Patch, spacing
and intensity window are those of the base's plans (plans/swinunetr_fseft.json). Their sliding window overlaps by a
quarter, and nothing is mirrored.

The activation is the sigmoid, as theirs is for one structure at a time. On FLARE22 they take a softmax over nine organs
and background, which is `recipe.activation=softmax`.

Crops are drawn as MONAI's RandCropByPosNegLabel draws them with an image threshold, inside the box of what is above
-175 HU: of several structures each by its size, and the others centred on background voxels above -175 HU. Methods that
read the last features only see fresh crops, too. Gradients are not clipped. The background row of a softmax starts
Xavier-uniform beside rows of the base, and as torch starts a convolution where all rows are new.

`medagi` is the protocol of FSEFT's first version (MedAGI 2023): the same crops, loss and optimiser, with a weight decay
of 1e-5; a fixed number of epochs without a stop rule, and rates of its own, for a linear probe, an adapter on the last
features, and whole networks. All heads start at random, which is `--head new`. Its adapter is a residual block with
instance norm; ours is the spatial adapter of the later version. It keeps the largest component of a prediction, which
fsseg does not. Its size constraint is `--transductive`, and begins after epoch 50, where a linear probe has ended
already: give it more steps, or `recipe.size_first_epoch`.

Two things differ in all of them, because nnUNetv2_predict could not follow them: intensities are clipped before an
image is resampled, and not after; and a prediction's sliding window runs over all that is not 0, and not over the box
above -175 HU only. On phantoms either costs or gains less than 0.005 DSC (docs/decisions.md).
"""

from typing import Any

from fsseg.config.errors import UsageError, unknown_name
from fsseg.config.recipes import Family

RECIPES = ("default", "fseft", "arena", "medagi")
_RATE_OF_WHOLE_PARTS = 1e-4  # of a tuned decoder, too
_RATES: dict[Family, float] = {"low_rank": 1e-3, "whole_network": _RATE_OF_WHOLE_PARTS, "scratch": _RATE_OF_WHOLE_PARTS}
_OTHER_RATE = 1e-2
# Rate, and the epoch in which the rate would be zero; the training ends before it.
_MEDAGI: dict[Family, tuple[float, int]] = {
    "head": (1e-1, 50),
    "black_box": (1e-2, 100),
    "whole_network": (1e-4, 150),
    "scratch": (1e-4, 150),
}


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
        UsageError: there is no such recipe, or it has no rate for the method.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    if name == "default":
        return {}
    if name == "medagi":
        return _medagi(family, shots)
    rate = published_rate or _RATES.get(family, _OTHER_RATE)
    if decoder == "tuned":
        rate = _RATE_OF_WHOLE_PARTS
    return {
        **_alike(family, rate),
        **_schedule(shots),
        "plateau_improvement": 0.001 if name == "fseft" else 0.01,
        "plateau_relative": name == "arena",
    }


def _medagi(family: Family, shots: int) -> dict[str, Any]:
    """Return the settings of the protocol of 2023, which has no stop rule, or raise `UsageError`."""
    if family not in _MEDAGI:
        raise UsageError(
            f"--recipe medagi has no rate for methods of the family {family!r}.\n"
            "  allowed: linear_probe, spatial_adapter, full, l2_sp and from_scratch; or take --recipe fseft"
        )
    rate, epochs = _MEDAGI[family]
    return {
        **_alike(family, rate),
        "weight_decay": 1e-5,
        **_cosine(epochs - 1, shots),
        "plateau_first": epochs * shots,  # never
    }


def _alike(family: Family, rate: float) -> dict[str, Any]:
    """Return what all published recipes have in common."""
    return {
        "loss": "dice",
        "learning_rates": {family: rate},  # one for everything that is trained
        "decoder_learning_rate": rate,
        "head_learning_rate": rate,
        "new_head_rows": "random",
        "batch_size": 6,
        "foreground_probability": 0.5,
        "crop_jitter": 0.0,
        "crop_centres": "voxels",
        "cut_to_body": True,
        "crops_per_volume": 6,
        "fresh_crops": True,
        "augmentation": "intensity_shift",
        "gradient_clip_norm": None,
        "tile_step_size": 0.75,
        "precision": "float32",
    }


def _schedule(shots: int) -> dict[str, Any]:
    return {
        **_cosine(199, shots),
        "plateau_first": 31 * shots,
        "plateau_window": 10 * shots,
        "plateau_patience": 19 * shots,
    }


def _cosine(epochs: int, shots: int) -> dict[str, Any]:
    return {"schedule": "cosine", "made_for_cases": shots, "max_steps": epochs * shots, "epoch_steps": shots}
