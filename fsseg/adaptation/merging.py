"""An adapter merged into its base: the weights of a stock nnU-Net model."""

import shlex
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from fsseg.adaptation.base_gaps import left_random
from fsseg.config.errors import UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import AdapterInfo
from fsseg.methods.interpolation import interpolated_state_dict
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.load_adapted import base_with_heads, head_of, load_adapted


def merged_model(base: ModelFolder, adapter: Path, scale: float = 1.0) -> tuple[ModelFolder, AdapterInfo]:
    """Return the adapted network as a model of its own, and the header of the adapter.

    Args:
        base: the model that the adapter was trained on.
        adapter: the adapter file.
        scale: how far to go from the base (0) to the adapted network (1).

    Raises:
        UsageError: the method does not merge, or did not start from the base and is to be scaled.
        FssegError: the adapter is damaged, or was made on another base.
    """
    adapted, info = load_adapted(base, adapter)
    if adapted.method.not_merged_because:
        raise UsageError(
            f"An adapter of {info.method} cannot be merged into plain weights: {adapted.method.not_merged_because}.\n"
            f"  Predict with it as it is: fsseg predict --base {shlex.quote(str(base.path))}"
            f" --adapter {shlex.quote(str(adapter))}"
        )
    if scale != 1 and not adapted.method.uses_pretrained:
        raise UsageError(
            f"--scale {scale} goes towards the base, but {info.method} did not start from the base.\n  allowed: 1"
        )
    model = replace(
        base,
        plans=base.stock_plans,
        dataset_json=base.dataset_json_with(
            info.integers,
            info.activation,
            info.support,
            left_random(base, adapted),
            file_ending=info.file_ending,
            transductive=info.transductive,
        ),
        weights=_weights(base, adapted, info, scale),
        mirroring_axes=info.mirroring_axes or None,
        tile_step_size=info.tile_step_size,
    )
    return model, info


def _weights(base: ModelFolder, adapted: AdaptedNetwork, info: AdapterInfo, scale: float) -> dict[str, Tensor]:
    merged = adapted.merged_state_dict()
    if scale == 1:
        return merged
    new = [channel for channel, source in enumerate(head_of(info, base)[0]) if not isinstance(source, int)]
    return interpolated_state_dict(base_with_heads(base, info), merged, scale, new)
