"""What a user should know of an adaptation that its options do not say."""

from torch import nn

from fsseg.adaptation.base_gaps import left_random_notes, trained_random_notes
from fsseg.adaptation.job import Job
from fsseg.adaptation.start import Start
from fsseg.adaptation.unused_settings import unused_settings_notes
from fsseg.checkpoints.base_channels import ignored_channel_notes
from fsseg.config.recipes import Recipe
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.nnunet.model_folder import TILE_STEP_SIZE, ModelFolder
from fsseg.nnunet.normalization import ranges_beyond_unit


def start_notes(start: Start) -> list[str]:
    """Return what the report is to say, of the method on this network first."""
    job, adapted = start.job, start.network
    of_settings = unused_settings_notes(adapted, job.recipe)
    of_settings += batch_statistics_notes(adapted) if job.pools_features else []
    of_job = [*_head_notes(job), *_background_notes(job), *_integer_notes(job), *_recipe_notes(job.base, job.recipe)]
    random = trained_random_notes(job.base, adapted)
    return [*adapted.notes, *of_settings, job.flips.reason, *of_job, *random]


def urgent_notes(start: Start) -> list[str]:
    """Return what may be a reason to stop at once: parts of the base, or of the image, that cannot work here."""
    base, adapted = start.job.base, start.network
    return [*ignored_channel_notes(base, adapted), *left_random_notes(base, adapted)]


def _head_notes(job: Job) -> list[str]:
    """Say which head rows of the base are left aside."""
    known = job.known_rows
    anew = [name for name, row in job.target.base_rows.items() if row is None and name in known]
    if not anew:
        return []
    return [f"--head new: the base knows {', '.join(anew)}, but its head rows are not used; new ones start there."]


def _background_notes(job: Job) -> list[str]:
    """Say what becomes of the background of a base with a softmax."""
    if job.base.activation == "sigmoid" or not job.method.uses_pretrained:
        return []
    if job.recipe.activation == "softmax":
        return ["The base's background row is kept."]
    note = "The base has a softmax. Every structure has a sigmoid of its own now"
    if all(row is None for row in job.target.base_rows.values()):
        return [f"{note}."]
    return [
        f"{note}: known ones start from their row minus the background's, which is the base's probability against"
        " background."
    ]


def _integer_notes(job: Job) -> list[str]:
    """Say when the label maps of the result hold other integers than those of the dataset."""
    integers, structures = job.integers(), job.target.structures
    if all(values == structures.integers[name] for name, values in integers.items()):
        return []
    listing = ", ".join(f"{name} {'+'.join(map(str, values))}" for name, values in integers.items())
    return [f"Predictions have integers of their own, and dataset.json in the run says so: {listing}."]


def _recipe_notes(base: ModelFolder, recipe: Recipe) -> list[str]:
    """Say what a recipe does that depends on the base, or that stock nnU-Net does not know of."""
    return [*_scaling_notes(base, recipe), *_inference_notes(recipe)]


def _scaling_notes(base: ModelFolder, recipe: Recipe) -> list[str]:
    if recipe.augmentation != "intensity_shift":
        return []
    ranges = ranges_beyond_unit(base.configuration_manager().normalization_schemes, base.plans)
    names = base.channel_names
    listed = ", ".join(f"{name} by {words}" for name, words in zip(names, ranges, strict=True) if words)
    if not listed:
        return []
    return [
        "The recipe's intensity_shift is made for images scaled to [0, 1], which it shifts by up to 0.1, but the base"
        f" scales {listed}: the shift has another size than published. recipe.augmentation=nnunet fits any scaling."
    ]


def _inference_notes(recipe: Recipe) -> list[str]:
    if recipe.tile_step_size == TILE_STEP_SIZE:
        return []
    step = f"{recipe.tile_step_size:g}"
    return [
        f"Predictions move the sliding window by {step} of the patch, as the recipe says. `fsseg predict` does so by"
        f" itself; nnUNetv2_predict needs -step_size {step}."
    ]


def batch_statistics_notes(adapted: AdaptedNetwork) -> list[str]:
    """Say when cached features are not those of a training with the network in the loop."""
    norms = (m for m in adapted.network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    if not adapted.method.reads_features_only or all(norm.track_running_stats for norm in norms):
        return []
    return [
        "The network normalises by the batch at hand. Features are computed once, crop by crop, as in a prediction;"
        " with the network in the loop they would depend on what else is in the batch."
    ]
