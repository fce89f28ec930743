"""nnU-Net's side of a few-shot adaptation: folds, folders, --c and --val. What is trained, a subclass says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from fsseg.config.errors import UsageError
from fsseg.config.few_shot import few_shot_settings
from fsseg.config.json_files import write_json
from fsseg.data.channels import channel_names
from fsseg.data.folder_listing import is_own
from fsseg.data.splits import make_split
from fsseg.data.splits_file import require_splits
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume
from fsseg.models.networks import build_network
from fsseg.nnunet.checkpoint_content import read_checkpoint
from fsseg.nnunet.checkpoint_file import (
    CHECKPOINT_NAME,
    LATEST_NAME,
    STOCK_TRAINER,
    refuse_best,
)
from fsseg.nnunet.environment import SPLITS_NAME, require_full_paths
from fsseg.nnunet.few_shot.folds import FOLDS_OF_NNUNET, fold_of_pool, pool_cases, restricted
from fsseg.nnunet.few_shot.log import PROGRESS_NAME
from fsseg.nnunet.preprocessed_structures import structures_of_preprocessed
from fsseg.nnunet.preprocessed_volume import preprocessed_volume
from fsseg.nnunet.preprocessing import source_labels
from fsseg.nnunet.validation import REFERENCE_FOLDER, validate


class FewShotTrainer(nnUNetTrainer):
    """An adaptation in nnU-Net's folders; settings come from the "fsseg" key of the plans.

    The loop is fsseg's: an adaptation has no epochs and needs no validation set. A subclass implements `adapt`, and
    sets `structures` (the adapted ones), `dataset_json` and `inference_allowed_mirroring_axes`.
    """

    structures: Structures
    network: nn.Module

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature, read by introspection
    ) -> None:
        require_full_paths()
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp:
            raise UsageError("A few-shot adaptation runs in one process.\n  Leave -num_gpus out.")
        self.settings = few_shot_settings(self.plans_manager.plans)
        self.annotated = structures_of_preprocessed(Path(str(self.preprocessed_dataset_folder_base)))
        self.is_continued = self.is_finished = False

    def adapt(self, volumes: list[Volume]) -> None:
        """Adapt `self.network` to support cases and write what `fold_X` holds."""
        raise NotImplementedError

    @property
    def fold_folder(self) -> Path:
        """The folder of this fold."""
        return Path(str(self.output_folder))

    def initialize(self) -> None:
        """Find the preprocessed cases; the network is built when the support cases are known."""
        self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        self.network = _NetworkToCome()
        self.was_initialized = True

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return the training and the held-out cases of the fold, all of them from the pool that the plans name.

        A fold is that of splits_final.json, one of nnU-Net's five, or of fewer than five cases one held out. No
        held-out image is trained on, and no test case is in any fold, "all" included.
        """
        if not self.was_initialized:
            self.initialize()
        identifiers = self.dataset_class.get_identifiers(str(self.preprocessed_dataset_folder))
        cases = sorted(name for name in identifiers if is_own(Path(name)))
        duplicates = self.annotated.duplicates
        pool = pool_cases(cases, self.settings, duplicates)
        if self.fold == "all":
            return pool, []
        splits = Path(str(self.preprocessed_dataset_folder_base)) / SPLITS_NAME
        if splits.is_file():
            require_splits(splits, cases, int(self.fold))
        # nnU-Net writes the folds that it makes for all trainings of the dataset, whatever their pools.
        is_stock = splits.is_file() or (pool == cases and len(cases) >= FOLDS_OF_NNUNET)
        training, held_out = super().do_split() if is_stock else fold_of_pool(pool, int(self.fold), duplicates)
        others = len({*training, *held_out} - set(pool))
        if others:
            self.print_to_log_file(f"{others} cases of the fold are left out: not of the pool, or test cases.")
        return restricted(training, held_out, pool, duplicates)

    def run_training(self) -> None:
        """Adapt to support cases of the fold's training cases."""
        if self.is_finished:
            return
        training, _ = self.do_split()
        if not self.is_continued:  # without --c a training starts anew
            for name in (LATEST_NAME, CHECKPOINT_NAME, PROGRESS_NAME):
                (self.fold_folder / name).unlink(missing_ok=True)
        shots = min(self.settings.shots, len(training))
        if shots < self.settings.shots:
            self.print_to_log_file(f"The fold has {shots} training case(s), fewer than {self.settings.shots} shots.")
        split = make_split(training, shots=shots, seed=self.settings.seed)
        volumes = [self._volume(case) for case in split.support]
        self.fold_folder.mkdir(parents=True, exist_ok=True)
        write_json(Path(str(self.output_folder_base)) / "plans.json", self.plans_manager.plans)
        split.model_copy(update={"test": self.settings.test}).save(self.fold_folder)
        self.adapt(volumes)

    def _volume(self, case: str) -> Volume:
        """Return a preprocessed case; where it lacks a structure that it annotates, with what its label map holds."""
        folder = Path(str(self.preprocessed_dataset_folder))
        volume = preprocessed_volume(case, folder, self.structures, self.plans_manager)
        ending = self.dataset_json["file_ending"]
        label = Path(str(self.preprocessed_dataset_folder_base)) / REFERENCE_FOLDER / f"{case}{ending}"
        if volume.locations.keys() >= set(self.structures.annotation(case).annotated) or not label.is_file():
            return volume
        return replace(volume, source=source_labels(label, self.plans_manager))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Take a finished network, or note that an unfinished training is resumed."""
        refuse_best(Path(filename_or_checkpoint))
        if not self.was_initialized:
            self.initialize()
        self.is_continued = True
        if Path(filename_or_checkpoint).name != CHECKPOINT_NAME:
            return
        checkpoint = read_checkpoint(Path(filename_or_checkpoint))
        merged = checkpoint["trainer_name"] == STOCK_TRAINER
        self.network = self._plain_network() if merged else self._network_of_class()
        self.network.load_state_dict(checkpoint["network_weights"])
        self.network.to(self.device)
        self.is_finished = True

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the held-out cases and score what they annotate: `fold_X/validation/summary.json`."""
        validate(self, self.network, self.structures, save_probabilities=save_probabilities)

    def _plain_network(self) -> nn.Module:
        return build_network(
            self.configuration_manager.configuration["architecture"],
            input_channels=len(channel_names(self.dataset_json)),
            output_channels=self.label_manager.num_segmentation_heads,
            deep_supervision=False,
        )

    def _network_of_class(self) -> nn.Module:
        return self.build_network_architecture(
            self.plans_manager,
            self.configuration_manager,
            len(channel_names(self.dataset_json)),
            self.label_manager.num_segmentation_heads,
            enable_deep_supervision=False,
        )


class _NetworkToCome(nn.Module):
    """What stands for the network until the support cases are known."""

    def state_dict(self, *_: Any, **__: Any) -> Any:
        """Refuse what only -pretrained_weights asks for."""
        raise UsageError(
            "A few-shot adaptation takes its base from the plans.\n"
            "  Leave -pretrained_weights out, and name the base to `fsseg nnunet plans --checkpoint`."
        )
