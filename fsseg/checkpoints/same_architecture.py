"""Plans whose network takes the weights of a checkpoint without an error and computes something else with them."""

from typing import Any

from fsseg.checkpoints.depth import same_unet
from fsseg.config.errors import UsageError
from fsseg.models.networks import ArchitectureBlock, arguments_of, defaults_of

_BY_LEVEL = ("strides", "kernel_sizes")
# What another value of these changes is seen in names or shapes of tensors; dropout holds no weights.
_SEEN = {
    *("n_stages", "features_per_stage", "n_conv_per_stage", "n_conv_per_stage_decoder", "n_blocks_per_stage"),
    *("conv_bias", "feature_size", "depths", "init_filters", "blocks_down", "blocks_up", "base_features"),
    *("dropout_op", "dropout_op_kwargs", "deep_supervision"),
}
ADVICE = "Give plans that agree in these; spacing, patch and depth may differ."
_OF_LAYERS = "_kwargs"  # norm_op_kwargs are the arguments of norm_op
_AXES = 3


def require_same_meaning(old: ArchitectureBlock, new: ArchitectureBlock, advice: str = ADVICE) -> None:
    """Refuse plans in which weights would load and mean something else, which names and shapes do not show.

    Args:
        old: architecture block of the checkpoint's own plans.
        new: architecture block of the plans to use; one of another class is left to the names of its tensors.
        advice: what to do, for the message.

    Raises:
        UsageError: strides or kernel sizes of a level that both have differ, or another argument, such as the norm.
    """
    if old["network_class_name"] != new["network_class_name"]:
        return
    _require_same_levels(old, new, advice)
    ours, theirs = _comparable(arguments_of(old)), _comparable(arguments_of(new))
    keys = (ours.keys() & theirs.keys()) - _SEEN - set(_BY_LEVEL)
    different = sorted(key for key in keys if ours[key] != theirs[key])
    if different:
        lines = [f"  {key}: checkpoint {_shown(ours[key])}, plans {_shown(theirs[key])}" for key in different]
        raise UsageError(
            "The plans describe another network than the checkpoint's. Its weights would load and mean something"
            " else.\n" + "\n".join(lines) + f"\n  {advice}"
        )


def _require_same_levels(old: ArchitectureBlock, new: ArchitectureBlock, advice: str) -> None:
    if not same_unet(old, new):
        return
    for key in _BY_LEVEL:
        levels = [_levels(block["arch_kwargs"], key) for block in (old, new)]
        shared = min(map(len, levels))
        if levels[0][:shared] != levels[1][:shared]:
            raise UsageError(
                f"The plans have other {key.replace('_', ' ')} in the first {shared} levels than the network of the"
                " checkpoint. Its weights would load and mean something else.\n"
                f"  checkpoint: {levels[0]}\n  plans:      {levels[1]}\n  {advice}"
            )


def _levels(arguments: dict[str, Any], key: str) -> list[Any]:
    """Return an entry of each level and axis; plans may write one number for all axes, or for all levels."""
    entries = arguments.get(key, [])
    if isinstance(entries, int):
        entries = [entries] * int(arguments.get("n_stages", 0))
    return [[entry] * _AXES if isinstance(entry, int) else list(entry) for entry in entries]


def _comparable(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with lists for tuples, and those of layers with their defaults."""
    plain: dict[str, Any] = {
        key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()
    }
    for key in arguments:
        layer = plain.get(key.removesuffix(_OF_LAYERS))
        if key.endswith(_OF_LAYERS) and isinstance(layer, type):
            given = {**defaults_of(layer), **(plain[key] or {})}
            plain[key] = {name: value for name, value in given.items() if name != "inplace"}  # changes no result
    return plain


def _shown(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)
