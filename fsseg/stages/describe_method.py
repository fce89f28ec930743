"""One adaptation method in full: where it is from, what it trains, and its options."""

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fsseg.config.described import as_yaml, described_fields
from fsseg.config.recipes import Recipe
from fsseg.methods.registry import create_method, method_entry, preset_options
from fsseg.stages.list_methods import counts_on_plans

# What a family trains itself, besides the head.
_TRAINS = {
    "whole_network": "every weight, from the pretrained ones on",
    "scratch": "every weight, from random ones on",
    "decoder": "the decoder and the head",
    "head": "the head alone",
    "black_box": "layers of its own between the last features and the head, and the head",
    "selective": "pretrained parameters of one kind, and the head",
    "low_rank": "low-rank terms that are added to pretrained weights, and the head",
    "adapter": "layers of its own inside the network, and the head",
}


def describe_method(name: str, plans: Path | None) -> dict[str, Any]:
    """Describe a method or preset.

    Args:
        name: one of `fsseg methods`.
        plans: an nnU-Net plans file, on whose network parameters are counted; None counts none.

    Returns:
        name, summary, text (of its docstring), trains, learning_rate (of the default recipe; None where no step is
        taken), mergeable, not_merged_because, decoder (the default first), presets, options (name, takes, default,
        meaning; the defaults are the preset's), and with plans what `list_methods` says of the network.

    Raises:
        UsageError: there is no such method.
    """
    method = create_method(name)
    plain, preset = name.partition(":")[0], preset_options(name)
    options = [asdict(field) for field in described_fields(method.Options)]
    for option in options:
        if option["name"] in preset:
            option["default"] = as_yaml(preset[option["name"]])
    trains = "nothing by steps: the head is set from features" if method.training_free else _TRAINS[method.family]
    return {
        "name": name,
        "summary": method_entry(name).summary,
        "text": inspect.cleandoc(type(method).__doc__ or ""),
        "trains": trains,
        "learning_rate": None if method.training_free else Recipe().learning_rates[method.family],
        "mergeable": not method.not_merged_because,
        "not_merged_because": method.not_merged_because,
        "decoder": list(method.decoder_choices),
        "presets": {f"{plain}:{preset}": dict(values) for preset, values in method_entry(name).presets.items()},
        "options": options,
        **counts_on_plans(name, plans),
    }


def describe_recipe() -> dict[str, Any]:
    """Describe the settings of the default recipe, in the form of the options of a method."""
    return {
        "name": "recipe",
        "summary": "how an adaptation is trained, whatever the method",
        "options": [asdict(field) for field in described_fields(Recipe)],
    }
