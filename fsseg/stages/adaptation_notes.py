"""What a user should know of an adaptation that its options do not say."""

from torch import nn

from fsseg.config.recipes import Rates, Recipe
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.stages.adaptation import Job


def notes_of(job: Job, adapted: AdaptedNetwork) -> list[str]:
    """Return all that is to be said, of the method on this network first."""
    of_settings = [*idle_notes(adapted, job.recipe), *batch_statistics_notes(adapted)]
    return [*adapted.notes, *of_settings, *background_notes(job), *integer_notes(job)]


def background_notes(job: Job) -> list[str]:
    """Say what becomes of the background of a base with a softmax."""
    if job.base.activation == "sigmoid" or not job.method.uses_pretrained:
        return []
    if job.recipe.activation == "softmax":
        return ["The base's background row is kept."]
    return [
        "The base has a softmax. Every structure has a sigmoid of its own now: known ones start from their row minus"
        " the background's, which is the base's probability against background."
    ]


def integer_notes(job: Job) -> list[str]:
    """Say when the label maps of the result hold other integers than those of the dataset."""
    integers, structures = job.integers(), job.target.structures
    if all(values == structures.integers[name] for name, values in integers.items()):
        return []
    listing = ", ".join(f"{name} {'+'.join(map(str, values))}" for name, values in integers.items())
    return [f"Predictions have integers of their own, and dataset.json in the run says so: {listing}."]


def idle_notes(adapted: AdaptedNetwork, recipe: Recipe) -> list[str]:
    """Say which settings were given although they have no effect on this adaptation."""
    idle = [f"recipe.{name}" for name in _idle_fields(adapted, recipe) if getattr(recipe, name) != _default(name)]
    has_attention = any(name.endswith(".qkv") for name, _ in adapted.network.named_modules())
    if getattr(adapted.method.options, "projections", "") == "joint" and not has_attention:
        idle.append("projections")
    return [f"Without effect here: {', '.join(idle)}."] if idle else []


def batch_statistics_notes(adapted: AdaptedNetwork) -> list[str]:
    """Say when cached features are not those of a training with the network in the loop."""
    norms = (m for m in adapted.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    if not adapted.method.reads_features_only or all(norm.track_running_stats for norm in norms):
        return []
    return [
        "The network normalises by the batch at hand. Features are computed once, crop by crop, as in a prediction;"
        " with the network in the loop they would depend on what else is in the batch."
    ]


def _idle_fields(adapted: AdaptedNetwork, recipe: Recipe) -> list[str]:
    method = adapted.method
    own = recipe.learning_rates.get(method.family)  # one rate for all, as published recipes have it, is no mistake
    tuned_besides = any(group["name"] == "decoder" for group in adapted.parameter_groups(Rates(1.0, 1.0, 1.0)))
    idle = ["checkpoint_activations"] if method.reads_features_only else ["feature_crops", "feature_cache_gib"]
    if (not tuned_besides or method.family == "decoder") and recipe.decoder_learning_rate != own:
        idle.append("decoder_learning_rate")
    if method.family == "head" and recipe.head_learning_rate != own:
        idle.append("head_learning_rate")
    return idle


def _default(field: str) -> object:
    return Recipe.model_fields[field].default
