"""What plans say in a few lines: patch, spacing, normalisation and network."""

from typing import Any

from fsseg.nnunet.configurations import resolved

_AXES = ("z", "y", "x")  # of an image as nnU-Net's readers return it
_DEPTHS = ("n_conv_per_stage", "n_blocks_per_stage", "depths", "blocks_down")  # what a stage repeats, by network


def plan_summary(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """Return what a planner chose, as plain values.

    Args:
        plans: content of a plans file.
        configuration: name of the configuration.

    Returns:
        axes (order of the following lists), patch_size (voxels), spacing_mm, median_shape (voxels at this spacing; None
        where the plans do not say), batch_size, normalisation (a scheme a channel), network, stages, features and
        depths a stage (None where the network has no such list).
    """
    block = resolved(plans, configuration)
    network = block["architecture"]
    kwargs = network["arch_kwargs"]
    depths = next((kwargs[key] for key in _DEPTHS if key in kwargs), None)
    features = kwargs.get("features_per_stage")
    lists = [value for value in (features, depths) if isinstance(value, list)]
    return {
        "axes": [_AXES[axis] for axis in plans.get("transpose_forward", range(len(_AXES)))],
        "patch_size": list(block["patch_size"]),
        "spacing_mm": [round(float(value), 4) for value in block["spacing"]],
        "median_shape": block.get("median_image_size_in_voxels") or None,
        "batch_size": block.get("batch_size"),
        "normalisation": [str(scheme) for scheme in block["normalization_schemes"]],
        "network": network["network_class_name"].rpartition(".")[2],
        "stages": kwargs.get("n_stages") or (len(lists[0]) if lists else None),
        "features": features,
        "depths": depths,
    }


def summary_lines(summary: dict[str, Any], channels: list[str]) -> list[str]:
    """Return the summary as lines for people.

    Args:
        summary: of `plan_summary`.
        channels: names of the image channels.
    """
    axes = ", ".join(summary["axes"])
    schemes = zip(channels, summary["normalisation"], strict=True)
    network = [summary["network"]]
    network += [f"{summary['stages']} stages"] if summary["stages"] else []
    network += [f"features {_spaced(summary['features'])}"] if isinstance(summary["features"], list) else []
    network += [f"blocks {_spaced(summary['depths'])}"] if isinstance(summary["depths"], list) else []
    lines = [
        f"patch          {_times(summary['patch_size'])} voxels ({axes}), batch size {summary['batch_size']}",
        f"spacing        {_times(summary['spacing_mm'])} mm ({axes})",
        f"normalisation  {', '.join(f'{channel}: {scheme}' for channel, scheme in schemes)}",
        f"network        {', '.join(network)}",
    ]
    if summary["median_shape"]:
        shape = _times([round(size) for size in summary["median_shape"]])
        lines.insert(2, f"median image   {shape} voxels at this spacing, by the plans")
    return [f"  {line}" for line in lines]


def _times(values: list[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _spaced(values: list[int]) -> str:
    return " ".join(map(str, values))
