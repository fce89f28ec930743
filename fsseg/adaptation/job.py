"""The job: what is adapted to which structures, by which method and recipe. Whoever adapts makes it here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fsseg.adaptation.target import LabelledDataset, Target, make_target
from fsseg.checkpoints.base_channels import require_same_channels
from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.errors import require_known
from fsseg.config.recipes import DecoderChoice, Recipe
from fsseg.data.assembly import HIGHEST_INTEGER
from fsseg.methods.adapted_network import require_decoder_choice
from fsseg.methods.contract import Method
from fsseg.methods.registry import create_method
from fsseg.models.heads import BACKGROUND
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.mirroring import Flips, flips_of_adaptation
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.training.placement import require_precision

NO_DEVICE = torch.device("meta")  # of a job that is only described: nothing is computed there


@dataclass(frozen=True)
class Job:
    """One adaptation: everything but the support volumes.

    Attributes:
        base: the model to adapt.
        target: the structures.
        method: says what to build; it is never injected itself.
        decoder: frozen or tuned.
        recipe: how it is trained.
        seed: decides new weights and crops.
        device: where.
        method_name: the method as the user calls it, with its preset.
    """

    base: ModelFolder
    target: Target
    method: Method
    decoder: DecoderChoice
    recipe: Recipe
    seed: int
    device: torch.device
    method_name: str = ""

    @cached_property
    def patch_size(self) -> list[int]:
        """Patch of the base's plans, in z, y, x."""
        return list(self.base.configuration_manager().patch_size)

    @cached_property
    def batch_size(self) -> int:
        """Crops a step: the recipe's, or else those of the base's plans."""
        return self.recipe.batch_size or self.base.configuration_manager().batch_size

    @property
    def pools_features(self) -> bool:
        """Whether the features of a fixed pool of crops are computed once."""
        fresh = self.recipe.fresh_crops and not self.method.training_free
        return self.method.reads_features_only and not fresh

    @cached_property
    def flips(self) -> Flips:
        """Flips in training and prediction, and why; `UsageError` where the recipe asks for what there cannot be."""
        base = self.base if self.method.uses_pretrained else None
        return flips_of_adaptation(self.recipe, self.target.names, base, self.target.of_dataset)

    @property
    def known_rows(self) -> dict[str, int]:
        """The base's head rows by structure, where the method starts from the base."""
        return self.base.head_rows() if self.method.uses_pretrained else {}

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the channels of the head stand for."""
        return ((BACKGROUND,) if self.recipe.activation == "softmax" else ()) + self.target.names

    def model(
        self, support: Sequence[str] = (), random: Sequence[str] = (), transductive: Sequence[str] = ()
    ) -> ModelFolder:
        """Return the model folder of the adaptation to support cases, but for its weights.

        Args:
            support: the cases.
            random: tensors of the base that are random, and that the adaptation leaves so.
            transductive: cases whose images it sees without their label maps.
        """
        dataset_json = self.base.dataset_json_with(
            self.integers(),
            self.recipe.activation,
            support,
            random,
            file_ending=self.target.file_ending,
            transductive=transductive,
        )
        axes, step = self.flips.axes or None, self.recipe.tile_step_size
        return replace(self.base, dataset_json=dataset_json, mirroring_axes=axes, tile_step_size=step)

    def decides(self) -> dict[str, Any]:
        """Return what of the base and the device decides a training, as plain JSON values."""
        block = resolved(self.base.plans, self.base.configuration)
        where = {"base": self.base.sha256, "configuration": block, "device": self.device.type}
        return {**where, "mirroring_axes": self.flips.axes}

    def integers(self) -> dict[str, tuple[int, ...]]:
        """Return the integers of each structure in the label maps that the adapted network writes.

        They are those of the dataset, so that predictions can be laid over its label maps and nnU-Net's own evaluation
        compares like with like. The classes of a softmax are numbered by its channels, and nnU-Net writes 8 bits.
        """
        return self.target.integers_of_dataset() if self.keeps_integers else self.target.integers_from_one()

    @property
    def keeps_integers(self) -> bool:
        """Whether the adapted network writes the integers of the dataset."""
        highest = max(map(max, self.target.integers_of_dataset().values()))
        return self.recipe.activation == "sigmoid" and highest <= HIGHEST_INTEGER


def make_job(
    settings: AdaptationSettings, base: ModelFolder | Path, dataset: LabelledDataset, device: torch.device
) -> Job:
    """Return the job that settings ask for; what they say that does not go together is refused.

    Args:
        settings: what to adapt to, and how.
        base: the model to adapt, or its folder, which is read when the settings have turned out right.
        dataset: whose structures they are.
        device: where to train.

    Raises:
        UsageError: unknown method, option, structure or decoder choice; a recipe without a rate for the method; flips
            that there cannot be; a base of other image channels, or that is no model folder.
        FssegError: a file of the base is damaged.
    """
    recipe, names, known = settings.recipe, settings.structures, dataset.structures.names
    method = create_method(settings.method, settings.method_options)
    decoder = require_decoder_choice(method, settings.decoder)
    if not method.training_free:
        recipe.rates(method.family)
    require_precision(device, recipe.precision)
    require_known("structure", names, known, f"{dataset.name} annotates the allowed ones.")
    base = base if isinstance(base, ModelFolder) else ModelFolder.read(base)
    require_same_channels(base, dataset.channel_names, dataset.name)
    head_rows = base.head_rows() if settings.head == "base" and method.uses_pretrained else {}
    target = make_target(dataset, names, head_rows)
    job = Job(base, target, method, decoder, recipe, settings.seed, device, settings.method)
    _ = job.flips  # refused now
    return job
