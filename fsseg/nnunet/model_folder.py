"""nnU-Net model folders: plans.json, dataset.json and fold_X/checkpoint_final.pth, read without executing pickles."""

import hashlib
import json
import logging
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json
from fsseg.config.pretraining import PLANS_KEY
from fsseg.config.recipes import Activation
from fsseg.data.assembly import head_labels
from fsseg.data.channels import channel_names
from fsseg.data.contents import DatasetContent
from fsseg.data.dataset_json import read_dataset_json
from fsseg.data.splits import SUPPORT_KEY, TRANSDUCTIVE_KEY
from fsseg.data.structures import Structures, structures_of_dataset_json
from fsseg.models.weights_hash import hash_of_weights
from fsseg.nnunet.checkpoint_content import checked_checkpoint
from fsseg.nnunet.checkpoint_file import (
    CHECKPOINT_NAME,
    require_intact_weights,
    save_checkpoint,
)
from fsseg.nnunet.configurations import deciding_settings
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.model_checkpoints import checkpoint_file, remarks_on
from fsseg.nnunet.model_contents import checked_contents
from fsseg.nnunet.plans_network import network_of_plans
from fsseg.training.torch_file import read_torch_file

logger = logging.getLogger(__name__)

TILE_STEP_SIZE = 0.5  # nnU-Net's
TILE_STEP_KEY = "inference_tile_step_size"  # of a checkpoint; stock nnU-Net takes the step from its command only
RANDOM_KEY = "random_tensors"  # of dataset.json: what neither a checkpoint nor a training has filled
_OF_THE_MODEL_ALONE = ("labels", "regions_class_order", "name", RANDOM_KEY)


@dataclass(frozen=True)
class ModelFolder:
    """A trained nnU-Net model: everything needed to rebuild, adapt and run it.

    Attributes:
        path: the folder.
        plans: content of plans.json.
        dataset_json: content of dataset.json; its regions are the channels of the head, in order.
        configuration: name of the nnU-Net configuration, such as 3d_fullres.
        weights: state dict of the network, aliases included.
        mirroring_axes: axes that test-time mirroring may flip, or None.
        tile_step_size: step of the sliding window as a share of the patch.
    """

    path: Path
    plans: PlansContent
    dataset_json: DatasetContent
    configuration: str
    weights: dict[str, Tensor] = field(repr=False)
    mirroring_axes: tuple[int, ...] | None
    tile_step_size: float = TILE_STEP_SIZE

    @classmethod
    def read(cls, path: Path, file: Path | None = None) -> "ModelFolder":
        """Read a model folder as `fsseg pretrain`, `fsseg import`, `fsseg adapt` and nnU-Net leave it.

        Example:
            >>> base = ModelFolder.read(Path("runs/universal"))
            >>> base.structures.names
            ('liver', 'spleen')

        Args:
            path: the folder.
            file: the checkpoint in it; None takes that of the first fold, and says so where that was a choice.

        Raises:
            UsageError: the folder is no model folder, or is unfinished.
            FssegError: a file is damaged.
        """
        if file is None:
            file = checkpoint_file(path)
            for remark in remarks_on(path, [file]):
                logger.warning("%s", remark)
        plans, dataset_json = read_json(path / "plans.json"), read_dataset_json(path / "dataset.json")
        content = read_torch_file(file)
        known = checked_checkpoint(content, file)
        model = cls(
            path=path,
            plans=plans,
            dataset_json=dataset_json,
            configuration=known.init_args.configuration,
            weights=known.network_weights,
            mirroring_axes=known.inference_allowed_mirroring_axes or None,
            tile_step_size=known.inference_tile_step_size,
        ).checked()
        require_intact_weights(content, file, model.weights_sha256)
        return model

    def write(self, folder: Path) -> None:
        """Write a folder that stock `nnUNetv2_predict_from_modelfolder` loads where fsseg is not installed.

        Raises:
            OSError: not all of it could be written.
        """
        fold = folder / "fold_0"
        fold.mkdir(parents=True, exist_ok=True)
        # nnU-Net reads channels in the order of the keys of dataset.json, so the order is kept.
        write_json(folder / "plans.json", self.plans)
        write_json(folder / "dataset.json", self.dataset_json)
        step = {TILE_STEP_KEY: self.tile_step_size}
        save_checkpoint(fold / CHECKPOINT_NAME, self.weights, self.configuration, self.mirroring_axes, **step)

    def checked(self) -> "ModelFolder":
        """Return the model with the defaults of its files filled in.

        Raises:
            UsageError: the plans have no such configuration.
            FssegError: plans or labels cannot be read, or do not belong together.
        """
        plans, dataset_json = checked_contents(self.path, self.plans, self.dataset_json, self.configuration)
        return replace(self, plans=plans, dataset_json=dataset_json)

    @property
    def stock_plans(self) -> PlansContent:
        """The plans without the settings of the training that made this model; a model made from it has others."""
        return {key: value for key, value in self.plans.items() if key != PLANS_KEY}

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The image channels that the network takes, in order."""
        return channel_names(self.dataset_json)

    @property
    def settings(self) -> PlansContent:
        """What of the plans decides, besides the weights, what the network computes of an image."""
        return deciding_settings(self.plans, self.configuration)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the weights: names, shapes and values."""
        return hash_of_weights(self.weights)

    @cached_property
    def sha256(self) -> str:
        """Hash of weights and `settings`, by which adapters know their base."""
        text = self.weights_sha256 + json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def structures(self) -> Structures:
        """The structures of the head, in channel order."""
        return Structures(integers=structures_of_dataset_json(self.dataset_json, self.path).integers)

    @property
    def licence(self) -> str:
        """Licence of the weights, "unknown" where the file does not say."""
        return str(self.dataset_json.get("licence", "unknown"))

    def provenance(self) -> dict[str, str]:
        """Return where the weights lie, their hash and their licence, for what is made of them."""
        return {"path": str(self.path), "sha256": self.sha256, "licence": self.licence}

    @property
    def has_head(self) -> bool:
        """Whether the head knows any structure; imported encoders have none, and a placeholder for a head."""
        return bool(self.structures.names)

    @property
    def activation(self) -> Activation:
        """Activation of the head: sigmoid for regions; with a softmax, background is channel 0."""
        regions = self.plans_manager().get_label_manager(self.dataset_json).has_regions
        return "sigmoid" if regions or not self.has_head else "softmax"

    @property
    def output_channels(self) -> int:
        """Channels of the head: background of a softmax included, one for a placeholder."""
        return max(1, len(self.structures.names) + (self.activation == "softmax"))

    def head_rows(self) -> dict[str, int]:
        """Return the row of the head of each structure; a softmax numbers its rows by the integers of the labels."""
        structures = self.structures
        if self.activation == "softmax":
            return {name: integers[0] for name, integers in structures.integers.items()}
        return {name: row for row, name in enumerate(structures.names)}

    @property
    def random_tensors(self) -> tuple[str, ...]:
        """Tensors that hold random values, because the checkpoint that was imported has none for them."""
        return tuple(self.dataset_json.get(RANDOM_KEY, ()))

    def dataset_json_with(
        self,
        integers: dict[str, tuple[int, ...]],
        activation: Activation = "sigmoid",
        support: Iterable[str] = (),
        random: Iterable[str] = (),
        *,
        file_ending: str | None = None,
        transductive: Iterable[str] = (),
    ) -> DatasetContent:
        """Return the dataset.json of an adaptation: this model's, with the adapted structures instead of its own.

        Its support cases, and those that this model was adapted to before, stand in it, because nnU-Net copies the file
        to the predictions, where `fsseg evaluate` looks for them. So do the `transductive` cases, whose images it saw
        without label maps, and the `random` tensors that it left as they were. Images are looked for by the
        `file_ending`, which is that of the adapted dataset; None leaves the base's.
        """
        kept = {key: value for key, value in self.dataset_json.items() if key not in _OF_THE_MODEL_ALONE}
        lists = {SUPPORT_KEY: sorted({*kept.get(SUPPORT_KEY, ()), *support}), RANDOM_KEY: list(random)}
        lists[TRANSDUCTIVE_KEY] = sorted({*kept.get(TRANSDUCTIVE_KEY, ()), *transductive})
        kept |= {"file_ending": file_ending or kept["file_ending"]}
        return {**kept, **head_labels(integers, activation), **{key: names for key, names in lists.items() if names}}

    def plans_manager(self) -> PlansManager:
        """Return nnU-Net's view of the plans."""
        return PlansManager(deepcopy(self.plans))

    def configuration_manager(self) -> ConfigurationManager:
        """Return nnU-Net's view of the configuration."""
        return self.plans_manager().get_configuration(self.configuration)

    def build_untrained_network(self) -> nn.Module:
        """Build the network as its plans describe it, with random weights."""
        return network_of_plans(self.plans, self.configuration, self.dataset_json, output_channels=self.output_channels)

    def build_network(self) -> nn.Module:
        """Build the network with its pretrained weights; logits of the full resolution only."""
        network = self.build_untrained_network()
        self.load_weights(network)
        return network

    def load_weights(self, network: nn.Module) -> None:
        """Put the weights into a network that was built by the same plans; raise `FssegError` if they do not fit."""
        try:
            problems = network.load_state_dict(self.weights, strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise FssegError(
                f"The weights in {self.path} do not fit the network of its plans: {first[0].strip()}"
            ) from None
        if problems.missing_keys or problems.unexpected_keys:
            raise FssegError(
                f"The weights in {self.path} do not fit the network of its plans:"
                f" {len(problems.missing_keys)} missing, {len(problems.unexpected_keys)} unexpected keys"
                f" (first: {(problems.missing_keys + problems.unexpected_keys)[0]})."
            )
