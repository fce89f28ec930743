"""Settings of a recipe or a method that were given although they have no effect on an adaptation."""

from fsseg.config.recipes import Recipe
from fsseg.methods.adapted_network import AdaptedNetwork

_USED_WITHOUT_TRAINING = (
    "activation",
    "foreground_probability",
    "crop_jitter",
    "crop_centres",
    "cut_to_body",
    "crops_per_volume",
    "augmentation",
    "mirroring",
    "feature_crops",
    "feature_cache_gib",
    "tile_step_size",
)


def unused_settings_notes(adapted: AdaptedNetwork, recipe: Recipe) -> list[str]:
    """Say which settings were given although they have no effect on this adaptation."""
    unused = [f"recipe.{name}" for name in _unused_fields(adapted, recipe) if getattr(recipe, name) != _default(name)]
    unused += adapted.method.unused_options(adapted.network)
    return [f"Without effect here: {', '.join(unused)}."] if unused else []


def _unused_fields(adapted: AdaptedNetwork, recipe: Recipe) -> list[str]:
    method = adapted.method
    if method.training_free:
        return [name for name in Recipe.model_fields if name not in _USED_WITHOUT_TRAINING]
    own = recipe.learning_rates.get(method.family)  # one rate for all, as published recipes have it, is no mistake
    unused = ["checkpoint_activations"] if method.reads_features_only else []
    if recipe.fresh_crops or not method.reads_features_only:
        unused += ["feature_crops", "feature_cache_gib"]
    if (not adapted.tunes_decoder_besides or method.family == "decoder") and recipe.decoder_learning_rate != own:
        unused.append("decoder_learning_rate")
    if recipe.augmentation != "nnunet":
        unused.append("mirroring")
    if method.family == "head" and recipe.head_learning_rate != own:
        unused.append("head_learning_rate")
    return unused


def _default(field: str) -> object:
    return Recipe.model_fields[field].default
