"""What plans say in a few lines: patch, spacing, normalisation and network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import PlansContent

_AXES = ("z", "y", "x")  # of an image as nnU-Net's readers return it
_DEPTHS = ("n_conv_per_stage", "n_blocks_per_stage", "depths", "blocks_down")  # what a stage repeats, by network


@dataclass(frozen=True)
class PlanSummary:
    """What a planner chose.

    Attributes:
        axes: order of the following lists.
        patch_size: in voxels.
        spacing_mm: of the voxels.
        median_shape: of the images, in voxels at this spacing; None where the plans do not say.
        batch_size: patches a step.
        normalisation: a scheme a channel.
        network: name of its class.
        stages, features, depths: how many stages it has, and the features and blocks of each; None where it has no such
            list.
    """

    axes: list[str]
    patch_size: list[int]
    spacing_mm: list[float]
    median_shape: list[float] | None
    batch_size: int | None
    normalisation: list[str]
    network: str
    stages: int | None
    features: Any
    depths: Any

    def lines(self, channels: Sequence[str]) -> list[str]:
        """Return the summary as lines for people.

        Args:
            channels: names of the image channels.
        """
        axes = ", ".join(self.axes)
        schemes = zip(channels, self.normalisation, strict=True)
        network = [self.network]
        network += [f"{self.stages} stages"] if self.stages else []
        network += [f"features {_spaced(self.features)}"] if isinstance(self.features, list) else []
        network += [f"blocks {_spaced(self.depths)}"] if isinstance(self.depths, list) else []
        lines = [
            f"patch          {_times(self.patch_size)} voxels ({axes}), batch size {self.batch_size}",
            f"spacing        {_times(self.spacing_mm)} mm ({axes})",
            f"normalisation  {', '.join(f'{channel}: {scheme}' for channel, scheme in schemes)}",
            f"network        {', '.join(network)}",
        ]
        if self.median_shape:
            shape = _times([round(size) for size in self.median_shape])
            lines.insert(2, f"median image   {shape} voxels at this spacing, by the plans")
        return [f"  {line}" for line in lines]


def plan_summary(plans: PlansContent, configuration: str) -> PlanSummary:
    """Return what a planner chose.

    Args:
        plans: content of a plans file.
        configuration: name of the configuration.
    """
    block = resolved(plans, configuration)
    network = block["architecture"]
    kwargs = network["arch_kwargs"]
    depths = next((kwargs[key] for key in _DEPTHS if key in kwargs), None)
    features = kwargs.get("features_per_stage")
    lists = [value for value in (features, depths) if isinstance(value, list)]
    return PlanSummary(
        axes=[_AXES[axis] for axis in plans.get("transpose_forward", range(len(_AXES)))],
        patch_size=list(block["patch_size"]),
        spacing_mm=[round(float(value), 4) for value in block["spacing"]],
        median_shape=block.get("median_image_size_in_voxels") or None,
        batch_size=block.get("batch_size"),
        normalisation=[str(scheme) for scheme in block["normalization_schemes"]],
        network=network["network_class_name"].rpartition(".")[2],
        stages=kwargs.get("n_stages") or (len(lists[0]) if lists else None),
        features=features,
        depths=depths,
    )


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _spaced(values: Sequence[int]) -> str:
    return " ".join(map(str, values))
