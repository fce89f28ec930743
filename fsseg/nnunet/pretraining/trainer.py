"""The nnU-Net trainer that pretrains on partially labelled datasets."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.config.json_files import write_json
from fsseg.data.assembly import paintable, region_labels
from fsseg.data.contents import DatasetContent
from fsseg.data.folder_listing import is_own
from fsseg.data.splits_file import require_splits
from fsseg.data.structures import duplicates_of
from fsseg.models.networks import build_network, set_deep_supervision, supports_deep_supervision
from fsseg.nnunet.environment import SPLITS_NAME
from fsseg.nnunet.mirroring import flips_of_pretraining
from fsseg.nnunet.preprocessed_structures import preprocessed_structures, structures_of_preprocessed
from fsseg.nnunet.pretraining.holdout import stratified_holdout
from fsseg.nnunet.pretraining.loaders import PretrainLoaders
from fsseg.nnunet.pretraining.objective import PretrainObjective
from fsseg.nnunet.pretraining.seeded_trainer import SeededTrainer
from fsseg.nnunet.softmax_head import with_background, with_classes, without_background
from fsseg.nnunet.validation import validate
from fsseg.training.placement import mixed_precision
from fsseg.training.validation import dice_of_counts


class nnUNetTrainerPartialLabel(SeededTrainer):  # noqa: N801 - nnU-Net finds trainers by this spelling
    """Universal pretraining: one sigmoid channel per structure, loss over annotated structures only.

    nnU-Net's are the plans, the network, the augmentation, the loop and the checkpoint format. Its own are the masked
    loss, the sampling of cases (sources balanced) and of foreground (annotated structures only), validation Dice over
    annotated structures, several processes on CPUs too, and random numbers that follow from the seed and the number of
    a step, so that a resumed run equals an uninterrupted one. Settings come from the "fsseg" key of the plans.
    """

    dataset_json: DatasetContent
    label_manager: LabelManager

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature, read by introspection
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if not self.label_manager.has_regions:
            raise UsageError(
                "Universal pretraining has a sigmoid per structure, but dataset.json has plain labels.\n"
                "  Make the dataset with `fsseg assemble`, or write every label as a region: [1, 1] for 1."
            )
        self.structures = preprocessed_structures(Path(str(self.preprocessed_dataset_folder_base)))
        painted = paintable(self.structures.integers, self.structures.highest)
        if painted != self.structures.integers:
            self._write_labels({**self.dataset_json, **region_labels(painted)})
        architecture = self.configuration_manager.configuration["architecture"]
        self.enable_deep_supervision = supports_deep_supervision(architecture)
        batch_size = self.configuration_manager.batch_size
        self.num_val_iterations_per_epoch = math.ceil(self.settings.validation_crops / batch_size)
        # What has seen no flips must not predict on them.
        self.flips = flips_of_pretraining(self.settings, self.structures.names)
        self.inference_allowed_mirroring_axes = self.flips.axes or None

    def _write_labels(self, dataset_json: DatasetContent) -> None:
        """Let the run and its predictions have other labels than the preprocessed dataset."""
        self.dataset_json = dataset_json
        self.label_manager = self.plans_manager.get_label_manager(dataset_json)

    def make_objective(self) -> PretrainObjective:
        """Return what is minimised; with a softmax the run's labels become classes."""
        objective = PretrainObjective(
            self.settings, self.structures, self.device, self.processes.gather, self._get_deep_supervision_scales()
        )
        if objective.is_softmax:
            self._write_labels(with_classes(self.dataset_json, self.structures))
        return objective

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network of the plans from fsseg's allow-list of classes."""
        return build_network(
            configuration_manager.configuration["architecture"],
            input_channels=num_input_channels,
            output_channels=num_output_channels,
            deep_supervision=enable_deep_supervision,
        )

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch deep supervision; a network without it has nothing to switch."""
        if self.enable_deep_supervision:
            super().set_deep_supervision_enabled(enabled)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Hold out the same share of every source, other cases in every fold; fold "all" trains on everything.

        Where the dataset has nnU-Net's splits_final.json, its folds count, without training cases that are the same
        image as a held-out one.
        """
        identifiers = self.dataset_class.get_identifiers(str(self.preprocessed_dataset_folder))
        cases = sorted(name for name in identifiers if is_own(Path(name)))
        if self.fold == "all":
            return cases, []
        splits = Path(str(self.preprocessed_dataset_folder_base)) / SPLITS_NAME
        if splits.is_file():
            require_splits(splits, cases, int(self.fold))
            training, held_out = super().do_split()
            left_out = duplicates_of(held_out, self.structures.duplicates)
            return [case for case in training if case not in left_out], list(held_out)
        share, seed = self.settings.validation_share, self.settings.seed
        return stratified_holdout(cases, self.structures, share, seed, int(self.fold))

    @property
    def crops(self) -> PretrainLoaders:
        """What makes crops of the preprocessed cases."""
        return PretrainLoaders(
            folder=Path(str(self.preprocessed_dataset_folder)),
            structures=self.structures,
            plans=self.plans_manager,
            patch_size=tuple(self.configuration_manager.patch_size),
            batch_size=self.batch_size,
            settings=self.settings,
            mirror_axes=self.flips.axes,
            processes=self.processes,
        )

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return the crops from the current step on; the validation crops are the same in every epoch."""
        training, held_out = self.do_split()
        left_out = sorted(duplicates_of(held_out, self.structures.duplicates))
        if left_out:
            self.print_to_log_file(f"Not trained on, because they are the same image as a held-out case: {left_out}")
        self.validation_batches = self.crops.validation(held_out, self.num_val_iterations_per_epoch)
        self.num_val_iterations_per_epoch = len(self.validation_batches)
        return iter(self.crops.training(training, self.steps_done, self.device)), None

    def write_model_files(self) -> None:
        """Write plans, dataset.json and structures.json; the last also beside the cases, for the validation."""
        folder = Path(str(self.output_folder_base))
        write_json(folder / "plans.json", self.plans_manager.plans)
        write_json(folder / "dataset.json", self.dataset_json)
        self.structures.save(folder)
        structures_of_preprocessed(Path(str(self.preprocessed_dataset_folder_base)))
        self.print_to_log_file(self.flips.reason)

    def finished_network(self) -> nn.Module:
        """Return the network as it is saved in the end: one with a softmax knows background."""
        network = self.evaluated_network
        return with_background(network) if self.objective.is_softmax else network

    def weights_to_train(self, saved: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a checkpoint holds, without the row of background that a finished softmax has."""
        return without_background(saved, self.plain_network) if self.objective.is_softmax else saved

    def on_validation_epoch_start(self) -> None:
        """Evaluate on the fixed validation crops."""
        self.evaluated_network.eval()
        self.dataloader_val = iter(self.validation_batches)

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """Count true and false positives and negatives over annotated voxels only."""
        with mixed_precision(self.device, self.settings.precision):
            value, counts = self.objective.validation(self.evaluated_network, batch)
        return {"loss": value.float().cpu().numpy(), "counts": self.processes.sum(counts).cpu().numpy()}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log the Dice of every structure; one that no validation crop annotates has none."""
        none = [float("nan")] * len(self.structures.names)
        dice = dice_of_counts(sum(output["counts"] for output in val_outputs)) if val_outputs else none
        known = [value for value in dice if not np.isnan(value)]
        self.logger.log("mean_fg_dice", float(np.mean(known)) if known else 0.0, self.current_epoch)
        self.logger.log("dice_per_class_or_region", dice, self.current_epoch)
        losses = [float(output["loss"]) for output in val_outputs]
        self.logger.log("val_losses", float(np.mean(losses)) if losses else 0.0, self.current_epoch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the held-out cases and score what they annotate: `fold_X/validation/summary.json`."""
        if self.processes.writes:
            network = self.finished_network()
            set_deep_supervision(network, enabled=False)
            validate(self, network, self.structures, save_probabilities=save_probabilities)
            set_deep_supervision(network, self.enable_deep_supervision)
