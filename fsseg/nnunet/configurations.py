"""Configurations of nnU-Net plans: with what they inherit, and taken out of plans that hold several."""

import json
from copy import deepcopy
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from fsseg.config.errors import FssegError, UsageError, shown_line
from fsseg.nnunet.contents import ConfigurationContent, PlansContent
from fsseg.nnunet.normalization import STATISTICS

_AXES_OF_SLICES = 2
_ABOUT_OTHERS = ("inherits_from", "next_stage")
# What makes an image into the network's input, and the network. The patch is not among them: it may be enlarged.
_DECIDING = ("transpose_forward", "image_reader_writer", STATISTICS)
_DECIDING_OF_CONFIGURATION = (
    "architecture",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "preprocessor_name",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
)


def resolved(plans: PlansContent, configuration: str, where: str = "The plans") -> ConfigurationContent:
    """Return a copy of a configuration with all that it inherits; plans of old nnU-Net get their architecture block.

    Args:
        plans: content of plans.json.
        configuration: its name.
        where: what the plans are called in messages.

    Raises:
        UsageError: the plans have no such configuration.
        FssegError: it cannot be read, or there are none at all.
    """
    allowed = plans.get("configurations")
    if not isinstance(allowed, dict) or not allowed:
        raise FssegError(f"{where}: damaged or another file, it lacks configurations.")
    if configuration not in allowed:
        raise UsageError(f"{where}: no configuration {configuration!r}.\n  allowed: {', '.join(allowed)}")
    try:
        return PlansManager(deepcopy(plans)).get_configuration(configuration).configuration
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, RuntimeError) as error:
        raise FssegError(
            f"{where}: configuration {configuration!r} holds no architecture that can be read"
            f" ({type(error).__name__}: {shown_line(error)})."
        ) from None


def require_plain_3d(plans: PlansContent, configuration: str, where: str) -> None:
    """Raise `UsageError` if a network reads slices, or another network's segmentation beside the image.

    Args:
        plans: content of plans.json.
        configuration: its name.
        where: what the model is called in messages.
    """
    block = resolved(plans, configuration, where)
    patch = block.get("patch_size")
    is_flat = configuration == "2d" or (isinstance(patch, list | tuple) and len(patch) == _AXES_OF_SLICES)
    if is_flat or block.get("previous_stage") is not None:
        raise UsageError(
            f"{where} is of the configuration {configuration!r}.\n"
            "  allowed: 3D networks that read the image alone, such as 3d_fullres"
        )


def deciding_settings(plans: PlansContent, configuration: str) -> PlansContent:
    """Return what of plans decides, besides the weights, what a network computes of an image, as plain JSON values."""
    block = resolved(plans, configuration)
    kept = {key: plans.get(key) for key in _DECIDING} | {key: block.get(key) for key in _DECIDING_OF_CONFIGURATION}
    return json.loads(json.dumps(kept, default=str))


def plans_with(plans: PlansContent, configuration: str, **changes: Any) -> PlansContent:
    """Return plans with one configuration, changed; the others would speak of another input.

    Args:
        plans: content of plans.json, left as it is.
        configuration: name of the configuration that stays.
        changes: entries of it that get another value.
    """
    block = {key: value for key, value in resolved(plans, configuration).items() if key not in _ABOUT_OTHERS}
    return {**deepcopy(plans), "configurations": {configuration: {**block, **changes}}}
