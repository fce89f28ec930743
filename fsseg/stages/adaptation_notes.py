"""What a user should know of an adaptation that its options do not say."""

from fsseg.nnunet.model_folder import TILE_STEP_SIZE
from fsseg.stages.adaptation import Job


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


def inference_notes(job: Job) -> list[str]:
    """Say when predictions take another step than stock nnU-Net's."""
    step = job.recipe.tile_step_size
    if step == TILE_STEP_SIZE:
        return []
    return [
        f"Predictions move the sliding window by {step:g} of the patch, as the recipe says."
        f" `fsseg predict` does so by itself; nnUNetv2_predict needs -step_size {step:g}."
    ]
