"""nnU-Net's training loop, stopped after any step and resumed there: its place, its checkpoints, its signals."""

import logging
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fsseg.config.pretraining import settings_of_plans
from fsseg.config.stopping import StopRequest, stops_after_step
from fsseg.data.structures import Structures
from fsseg.nnunet.checkpoint_content import read_checkpoint
from fsseg.nnunet.checkpoint_file import CHECKPOINT_NAME, LATEST_NAME, refuse_best, save_checkpoint
from fsseg.nnunet.environment import require_full_paths
from fsseg.nnunet.pretraining.log import METRICS_NAME, PretrainLog
from fsseg.nnunet.pretraining.state import restore_training, training_state
from fsseg.training.course import Course
from fsseg.training.crop_batches import worker_errors_named
from fsseg.training.processes import Processes
from fsseg.training.step import gradient_scaler

logger = logging.getLogger(__name__)


class ResumableTrainer(nnUNetTrainer):
    """Knows its place in the training to the step, writes it to checkpoints, and resumes there.

    Several processes train together, on CPUs too; the first one writes. Settings come from the "fsseg" key of the
    plans. A subclass sets `structures`, has a `train_step` that calls `step_taken`, gives the crops and the validation,
    and writes the model's files.
    """

    structures: Structures

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
        self.settings = settings_of_plans(self.plans_manager.plans)
        self.grad_scaler = gradient_scaler(self.device, self.settings.precision)
        self.num_iterations_per_epoch = min(self.settings.steps_per_epoch, self.settings.steps)
        self.num_epochs = math.ceil(self.settings.steps / self.num_iterations_per_epoch)
        self.metrics = PretrainLog(self.fold_folder / METRICS_NAME)
        self.step_losses: list[float] = []
        self.steps_in_epoch = 0
        self.saved_at = time.monotonic()
        self.course = Course()
        self.stop = StopRequest()
        self.average: AveragedModel | None = None

    def write_model_files(self) -> None:
        """Write the files that make the output folder a model folder."""
        raise NotImplementedError

    @property
    def fold_folder(self) -> Path:
        """The folder of this fold."""
        return Path(str(self.output_folder))

    def write_to(self, folder: Path) -> None:
        """Make `folder` the model folder, instead of nnU-Net's results tree."""
        self.output_folder_base = str(folder)
        self.output_folder = str(folder / f"fold_{self.fold}")
        self.fold_folder.mkdir(parents=True, exist_ok=True)
        self.metrics = PretrainLog(folder / METRICS_NAME)
        self.log_file = str(self.fold_folder / "training_log.txt")

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Write nnU-Net's messages to its log file only; standard output is for results."""
        if self.processes.writes:
            super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    @property
    def plain_network(self) -> nn.Module:
        """The network itself, whether or not nnU-Net compiled it."""
        return getattr(self.network, "_orig_mod", self.network)  # type: ignore[return-value]

    @property
    def evaluated_network(self) -> nn.Module:
        """The network that is validated and saved in the end: the averaged one if there is one."""
        return self.plain_network if self.average is None else self.average.module

    def finished_network(self) -> nn.Module:
        """Return the network as it is saved in the end."""
        return self.evaluated_network

    def weights_to_train(self, saved: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a checkpoint holds, as the network in training has it."""
        return saved

    @property
    def steps_done(self) -> int:
        """Optimisation steps taken."""
        return min(self.current_epoch * self.settings.steps_per_epoch + self.steps_in_epoch, self.settings.steps)

    def _epoch_steps(self) -> int:
        first = self.current_epoch * self.settings.steps_per_epoch
        return min(self.settings.steps_per_epoch, self.settings.steps - first)

    def run_training(self) -> None:
        """Train as nnU-Net does, with a message where a process that prepares crops is lost or fails.

        Ctrl-C and SIGTERM wait for the end of a step, or of the epoch whose last step it is, and its state is saved.
        """
        with stops_after_step() as self.stop, worker_errors_named(), closing(self.metrics):
            super().run_training()

    def on_train_start(self) -> None:
        """Get the crops, write what makes the folder a model folder, and start to show the progress."""
        if not self.was_initialized:
            self.initialize()
        self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        if not self.processes.writes:
            return
        self.fold_folder.mkdir(parents=True, exist_ok=True)
        if self.course.resumed_at:
            logger.info("The pretraining resumes at step %d of %d.", self.steps_done + 1, self.settings.steps)
        if not self.steps_done:  # what an earlier training left must not be taken for this one's
            (self.fold_folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        self.write_model_files()
        self.metrics.start(self.steps_done, self.settings.steps)

    def on_train_epoch_start(self) -> None:
        """Set training mode and learning rate; the last epoch has the steps that are left."""
        super().on_train_epoch_start()
        self.num_iterations_per_epoch = self._epoch_steps() - self.steps_in_epoch

    def step_taken(self, loss: float) -> None:
        """Note an optimisation step, and write a checkpoint if it is time for one or a stop was asked for."""
        self.step_losses.append(loss)
        self.steps_in_epoch += 1
        self.metrics.step(loss)
        self._save_within_epoch()

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
            self.save_checkpoint(str(self.fold_folder / LATEST_NAME))
            self._obey(self._asked_to_stop())

    def on_train_end(self) -> None:
        """Write the final checkpoint in the form that stock nnU-Net predicts with."""
        self.save_checkpoint(str(self.fold_folder / CHECKPOINT_NAME))
        if self.processes.writes:
            (self.fold_folder / LATEST_NAME).unlink(missing_ok=True)
        self._obey(self._asked_to_stop())

    def _save_within_epoch(self) -> None:
        """Write a checkpoint when the last one is too old, or before a stop; one follows the epoch anyway."""
        if self.steps_in_epoch == self._epoch_steps():
            return
        stop = self._asked_to_stop()
        if stop or time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
            self.save_checkpoint(str(self.fold_folder / LATEST_NAME))
        self._obey(stop)

    def _asked_to_stop(self) -> int:
        """Return the signal by which a process was asked to stop, or 0: all of them stop at the same step."""
        return self.processes.highest(self.stop.number, self.device)

    def _obey(self, stop: int) -> None:
        """Stop the process if there was a signal, when the first one has written its checkpoint."""
        if stop:
            self.processes.wait()
            self.stop.obey(stop)

    def save_checkpoint(self, filename: str) -> None:
        """Write weights, optimiser, logs and random state; complete or absent. The last one has averaged weights."""
        if not self.processes.writes:
            return
        finished = self.current_epoch >= self.num_epochs
        save_checkpoint(
            Path(filename),
            (self.finished_network() if finished else self.plain_network).state_dict(),
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
        checkpoint["network_weights"] = self.weights_to_train(checkpoint["network_weights"])
        restore_training(self, checkpoint)
