"""Stage: look at an adapter file, or merge it into a model folder of its own."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.adaptation.base_gaps import left_random
from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.manifest import Manifest
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.methods.adapter_file import load_adapter
from fsseg.methods.interpolation import interpolated_state_dict
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.load_adapted import base_with_heads, head_of, load_adapted


class MergeConfig(StrictModel):
    """What to merge.

    Attributes:
        adapter: the adapter file.
        base: model folder that the adapter was trained on.
        out: model folder to make.
        scale: how far to go from the base (0) to the adapted network (1).
    """

    adapter: Path
    base: Path
    out: Path
    scale: float = Field(default=1.0, ge=0, le=2)


def show_adapter(path: Path) -> dict[str, Any]:
    """Describe an adapter file: its header, and what its tensors weigh.

    Raises:
        FssegError: the file is damaged or no adapter.
        UsageError: the file is of a newer format.
    """
    state, info = load_adapter(path)
    return {
        **info.model_dump(mode="json"),
        "tensors": len(state),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "bytes": path.stat().st_size,
    }


def merge_adapter(config: MergeConfig) -> dict[str, Any]:
    """Write the adapted network as a stock nnU-Net model folder; complete or absent.

    Raises:
        UsageError: the method does not merge, or did not start from the base and is to be scaled, or not this far; the
            output exists.
        FssegError: the adapter is damaged, or was made on another base.
    """
    require_new(config.out)
    base = ModelFolder.read(config.base)
    adapted, info = load_adapted(base, config.adapter)
    if adapted.method.not_merged_because:
        raise UsageError(
            f"An adapter of {info.method} cannot be merged into plain weights: {adapted.method.not_merged_because}.\n"
            f"  Predict with it as it is: fsseg predict --base {shlex.quote(str(config.base))}"
            f" --adapter {shlex.quote(str(config.adapter))}"
        )
    if config.scale != 1 and not adapted.method.uses_pretrained:
        raise UsageError(
            f"--scale {config.scale} goes towards the base, but {info.method} did not start from the base.\n"
            "  allowed: 1"
        )
    weights = adapted.merged_state_dict()
    if config.scale != 1:
        new = [channel for channel, source in enumerate(head_of(info, base)[0]) if not isinstance(source, int)]
        weights = interpolated_state_dict(base_with_heads(base, info), weights, config.scale, new)
    manifest = Manifest("adapter merge", config.model_dump(mode="json"))
    manifest.add_inputs([config.adapter])
    with new_run_folder(config.out) as staging:
        replace(
            base,
            plans=base.stock_plans,
            dataset_json=base.dataset_json_with(
                info.integers,
                info.activation,
                info.support,
                left_random(base, adapted),
                file_ending=info.file_ending,
            ),
            weights=weights,
            mirroring_axes=info.mirroring_axes or None,
            tile_step_size=info.tile_step_size,
        ).write(staging)
        manifest.add(structures=list(info.structures), method=info.method, base=base.sha256, scale=config.scale)
        return manifest.write(staging)
