"""The nnU-Net trainer that pretrains on partially labelled datasets."""

import logging
import math
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import write_json
from fsseg.config.pretraining import settings_of_plans
from fsseg.config.stopping import StopRequest, stops_after_step
from fsseg.data.assembly import paintable, region_labels
from fsseg.data.folder_listing import is_own
from fsseg.data.splits_file import require_splits
from fsseg.data.structures import duplicates_of
from fsseg.models.networks import build_network, set_deep_supervision, supports_deep_supervision
from fsseg.nnunet.checkpoint_content import read_checkpoint
from fsseg.nnunet.checkpoint_file import (
    CHECKPOINT_NAME,
    LATEST_NAME,
    refuse_best,
    save_checkpoint,
)
from fsseg.nnunet.environment import SPLITS_NAME, require_full_paths
from fsseg.nnunet.mirroring import flips_of_pretraining
from fsseg.nnunet.pretraining.data import preprocessed_structures, stratified_holdout, structures_of_preprocessed
from fsseg.nnunet.pretraining.loaders import PretrainLoaders
from fsseg.nnunet.pretraining.log import METRICS_NAME, PretrainLog
from fsseg.nnunet.pretraining.objective import PretrainObjective
from fsseg.nnunet.pretraining.optimizer import optimizer_and_schedule
from fsseg.nnunet.pretraining.state import restore_training, training_state
from fsseg.nnunet.softmax_head import with_background, with_classes, without_background
from fsseg.nnunet.validation import validate
from fsseg.training.course import Course
from fsseg.training.crop_batches import worker_errors_named
from fsseg.training.placement import mixed_precision, place
from fsseg.training.processes import Processes
from fsseg.training.seeding import seeded
from fsseg.training.step import gradient_scaler, optimisation_step
from fsseg.training.validation import dice_of_counts

logger = logging.getLogger(__name__)


class nnUNetTrainerPartialLabel(nnUNetTrainer):  # noqa: N801 - nnU-Net finds trainers by this spelling
    """Universal pretraining: one sigmoid channel per structure, loss over annotated structures only.

    nnU-Net's are the plans, the network, the augmentation, the loop and the checkpoint format. Its own are the masked
    loss, the sampling of cases (sources balanced) and of foreground (annotated structures only), validation Dice over
    annotated structures, several processes on CPUs too, and random numbers that follow from the seed and the number of
    a step, so that a resumed run equals an uninterrupted one. Settings come from the "fsseg" key of the plans.
    """

    dataset_json: dict[str, Any]
    label_manager: LabelManager

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature, read by introspection
    ) -> None:
        require_full_paths()
        self.processes = Processes.current()  # first, because nnU-Net's constructor writes to the log
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.processes.count > 1:  # nnU-Net's own way needs CUDA and takes the device's number for the rank
            self.is_ddp, self.local_rank, self.device = False, 0, device
        if device.index is not None:  # nnU-Net takes the first CUDA device whichever it is given
            self.device = device
        if not self.label_manager.has_regions:
            raise UsageError(
                "Universal pretraining has a sigmoid per structure, but dataset.json has plain labels.\n"
                "  Make the dataset with `fsseg assemble`, or write every label as a region: [1, 1] for 1."
            )
        self.settings = settings_of_plans(self.plans_manager.plans)
        self.grad_scaler = gradient_scaler(self.device, self.settings.precision)
        self.structures = preprocessed_structures(Path(str(self.preprocessed_dataset_folder_base)))
        painted = paintable(self.structures.integers, self.structures.highest)
        if painted != self.structures.integers:
            self._write_labels({**self.dataset_json, **region_labels(painted)})
        architecture = self.configuration_manager.configuration["architecture"]
        self.enable_deep_supervision = supports_deep_supervision(architecture)
        self.num_iterations_per_epoch = min(self.settings.steps_per_epoch, self.settings.steps)
        self.num_epochs = math.ceil(self.settings.steps / self.num_iterations_per_epoch)
        batch_size = self.configuration_manager.batch_size
        self.num_val_iterations_per_epoch = math.ceil(self.settings.validation_crops / batch_size)
        # What has seen no flips must not predict on them.
        self.flips = flips_of_pretraining(self.settings, self.structures.names)
        self.inference_allowed_mirroring_axes = self.flips.axes or None
        self.metrics = PretrainLog(Path(str(self.output_folder)) / METRICS_NAME)
        self.step_losses: list[float] = []
        self.steps_in_epoch = 0
        self.saved_at = time.monotonic()
        self.course = Course()
        self.stop = StopRequest()
        self.average: AveragedModel | None = None

    def _write_labels(self, dataset_json: dict[str, Any]) -> None:
        """Let the run and its predictions have other labels than the preprocessed dataset."""
        self.dataset_json = dataset_json
        self.label_manager = self.plans_manager.get_label_manager(dataset_json)

    def write_to(self, folder: Path) -> None:
        """Make `folder` the model folder, instead of nnU-Net's results tree."""
        self.output_folder_base = str(folder)
        self.output_folder = str(folder / f"fold_{self.fold}")
        Path(self.output_folder).mkdir(parents=True, exist_ok=True)
        self.metrics = PretrainLog(folder / METRICS_NAME)
        self.log_file = str(Path(self.output_folder) / "training_log.txt")

    def initialize(self) -> None:
        """Build network, optimiser and objective from the seed, the same in all processes."""
        with seeded(self.settings.seed):
            super().initialize()
        self.objective = PretrainObjective(
            self.settings, self.structures, self.device, self.processes.gather, self._get_deep_supervision_scales()
        )
        if self.objective.is_softmax:
            self._write_labels(with_classes(self.dataset_json, self.structures))
        place(self.plain_network, self.device)
        if self.settings.ema is not None:
            self.average = AveragedModel(self.plain_network, multi_avg_fn=get_ema_multi_avg_fn(self.settings.ema))
        self.parallel_network = self.network
        if self.processes.count > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            # The lowest head of deep supervision takes no part in the loss.
            unused = self.enable_deep_supervision
            self.parallel_network = DistributedDataParallel(
                self.network, device_ids=devices, find_unused_parameters=unused
            )

    @property
    def plain_network(self) -> nn.Module:
        """The network itself, whether or not nnU-Net compiled it."""
        return getattr(self.network, "_orig_mod", self.network)  # type: ignore[return-value]

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

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return what the settings ask for."""
        return optimizer_and_schedule(self.settings, self.network.parameters(), self.num_epochs)

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
            require_splits(splits, cases)
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

    def run_training(self) -> None:
        """Train as nnU-Net does, with a message where a process that prepares crops is lost or fails.

        Ctrl-C and SIGTERM wait for the end of a step, or of the epoch whose last step it is, and its state is saved.
        """
        with stops_after_step() as self.stop, worker_errors_named(), closing(self.metrics):
            super().run_training()

    def on_train_start(self) -> None:
        """Write what makes the folder a model folder, and start to show the progress."""
        if not self.was_initialized:
            self.initialize()
        self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        if not self.processes.writes:
            return
        Path(str(self.output_folder)).mkdir(parents=True, exist_ok=True)
        if self.course.resumed_at:
            logger.info("The pretraining goes on at step %d of %d.", self.steps_done + 1, self.settings.steps)
        if not self.steps_done:  # what an earlier training left must not be taken for this one's
            (Path(str(self.output_folder)) / CHECKPOINT_NAME).unlink(missing_ok=True)
        folder = Path(str(self.output_folder_base))
        write_json(folder / "plans.json", self.plans_manager.plans)
        write_json(folder / "dataset.json", self.dataset_json)
        self.structures.save(folder)
        structures_of_preprocessed(Path(str(self.preprocessed_dataset_folder_base)))  # for the validation
        self.print_to_log_file(self.flips.reason)
        self.metrics.start(self.steps_done, self.settings.steps)

    @property
    def steps_done(self) -> int:
        """Optimisation steps taken."""
        return min(self.current_epoch * self.settings.steps_per_epoch + self.steps_in_epoch, self.settings.steps)

    def on_train_epoch_start(self) -> None:
        """Set training mode and learning rate; the last epoch has the steps that are left."""
        super().on_train_epoch_start()
        self.num_iterations_per_epoch = self._epoch_steps() - self.steps_in_epoch

    def _epoch_steps(self) -> int:
        first = self.current_epoch * self.settings.steps_per_epoch
        return min(self.settings.steps_per_epoch, self.settings.steps - first)

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Write nnU-Net's messages to its log file only; standard output is for results."""
        if self.processes.writes:
            super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """Take one optimisation step on a batch of crops, and on those that are accumulated with it."""
        more = [next(self.dataloader_train) for _ in range(self.settings.accumulate - 1)]
        # What is random in a step, such as dropout, follows from its number: a training that goes on draws the same.
        with seeded(self.settings.seed, self.steps_done, self.processes.rank):
            loss, stepped = optimisation_step(
                *[partial(self._compute_loss, each) for each in (batch, *more)],
                optimizer=self.optimizer,
                parameters=self.network.parameters(),
                device=self.device,
                precision=self.settings.precision,
                scaler=self.grad_scaler,
            )
        loss /= self.processes.count
        if not np.isfinite(loss):
            raise FssegError(f"The loss became {loss}; lower the learning rate.")
        if self.average is not None and stepped:  # not where the scaler skipped the step
            self.average.update_parameters(self.plain_network)
        self.step_losses.append(loss)
        self.steps_in_epoch += 1
        self.metrics.step(loss)
        self._save_within_epoch()
        return {"loss": np.array(loss)}

    def _compute_loss(self, batch: dict[str, Tensor]) -> Tensor:
        # The processes' gradients are averaged.
        return self.objective.training_loss(self.parallel_network, batch) * self.processes.count

    def _save_within_epoch(self) -> None:
        """Write a checkpoint when the last one is too old, or before a stop; one follows the epoch anyway."""
        if self.steps_in_epoch == self._epoch_steps():
            return
        stop = self._asked_to_stop()
        if stop or time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
            self.save_checkpoint(str(Path(str(self.output_folder)) / LATEST_NAME))
        self._obey(stop)

    def _asked_to_stop(self) -> int:
        """Return the signal by which a process was asked to stop, or 0: all of them stop at the same step."""
        return self.processes.highest(self.stop.number, self.device)

    def _obey(self, stop: int) -> None:
        """Stop the process if there was a signal, when the first one has written its checkpoint."""
        if stop:
            self.processes.wait()
            self.stop.obey(stop)

    def on_validation_epoch_start(self) -> None:
        """Evaluate on the fixed validation crops."""
        self._evaluated().eval()
        self.dataloader_val = iter(self.validation_batches)

    def _evaluated(self) -> nn.Module:
        """Return the network that is validated and saved in the end: the averaged one if there is one."""
        return self.plain_network if self.average is None else self.average.module

    def _finished(self) -> nn.Module:
        """Return the network as it is saved in the end: one with a softmax knows background."""
        network = self._evaluated()
        return with_background(network) if self.objective.is_softmax else network

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """Count true and false positives and negatives over annotated voxels only."""
        with mixed_precision(self.device, self.settings.precision):
            value, counts = self.objective.validation(self._evaluated(), batch)
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

    def on_epoch_end(self) -> None:
        """Write the metrics of the epoch and a checkpoint to resume from."""
        dice = self.logger.get_value("dice_per_class_or_region", step=-1)
        self.metrics.epoch(
            self.steps_done,
            self.step_losses,
            dict(zip(self.structures.names, dice, strict=True)),
            self.optimizer.param_groups[0]["lr"],
        )
        self.step_losses = []
        self.steps_in_epoch = 0
        self.current_epoch += 1
        if self.current_epoch < self.num_epochs:
            self.save_checkpoint(str(Path(str(self.output_folder)) / LATEST_NAME))
            self._obey(self._asked_to_stop())

    def on_train_end(self) -> None:
        """Write the final checkpoint in the form that stock nnU-Net predicts with."""
        folder = Path(str(self.output_folder))
        self.save_checkpoint(str(folder / CHECKPOINT_NAME))
        if self.processes.writes:
            (folder / LATEST_NAME).unlink(missing_ok=True)
        self._obey(self._asked_to_stop())

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the held-out cases and score what they annotate: `fold_X/validation/summary.json`."""
        if self.processes.writes:
            network = self._finished()
            set_deep_supervision(network, enabled=False)
            validate(self, network, self.structures, save_probabilities=save_probabilities)
            set_deep_supervision(network, self.enable_deep_supervision)

    def save_checkpoint(self, filename: str) -> None:
        """Write weights, optimiser, logs and random state; complete or absent. The last one has averaged weights."""
        if not self.processes.writes:
            return
        finished = self.current_epoch >= self.num_epochs
        save_checkpoint(
            Path(filename),
            (self._finished() if finished else self.plain_network).state_dict(),
            self.configuration_name,
            self.inference_allowed_mirroring_axes,
            **training_state(self, average=not finished),
        )
        self.saved_at = time.monotonic()

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continue from a checkpoint that `save_checkpoint` wrote."""
        refuse_best(Path(filename_or_checkpoint))
        if not self.was_initialized:
            self.initialize()
        checkpoint = read_checkpoint(Path(filename_or_checkpoint))
        if self.objective.is_softmax:
            checkpoint["network_weights"] = without_background(checkpoint["network_weights"], self.plain_network)
        restore_training(self, checkpoint)
