"""Optimisation steps of a pretraining, whose random numbers follow from the seed and the number of the step."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fsseg.config.errors import FssegError
from fsseg.nnunet.pretraining.objective import PretrainObjective
from fsseg.nnunet.pretraining.optimizer import optimizer_and_schedule
from fsseg.nnunet.pretraining.resumable_trainer import ResumableTrainer
from fsseg.training.placement import place
from fsseg.training.seeding import seeded
from fsseg.training.step import Optimisation, optimisation_step


class SeededTrainer(ResumableTrainer):
    """Builds the network from the seed and trains it in seeded steps, so that a resumed training has the same result.

    A subclass makes the objective.
    """

    objective: PretrainObjective

    def make_objective(self) -> PretrainObjective:
        """Return what is minimised, when the network is built."""
        raise NotImplementedError

    def initialize(self) -> None:
        """Build network, optimiser and objective from the seed, the same in all processes."""
        with seeded(self.settings.seed):
            super().initialize()
        self.objective = self.make_objective()
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

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return what the settings ask for."""
        return optimizer_and_schedule(self.settings, self.network.parameters(), self.num_epochs)

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """Take one optimisation step on a batch of crops, and on those that are accumulated with it."""
        more = [next(self.dataloader_train) for _ in range(self.settings.accumulate - 1)]
        # What is random in a step, such as dropout, follows from its number: a resumed training draws the same.
        with seeded(self.settings.seed, self.steps_done, self.processes.rank):
            loss, stepped = optimisation_step(
                self._optimisation(), *[partial(self._compute_loss, each) for each in (batch, *more)]
            )
        loss /= self.processes.count
        if not np.isfinite(loss):
            raise FssegError(f"The loss became {loss}; lower the learning rate.")
        if self.average is not None and stepped:  # not where the scaler skipped the step
            self.average.update_parameters(self.plain_network)
        self.step_taken(loss)
        return {"loss": np.array(loss)}

    def _optimisation(self) -> Optimisation:
        parameters = list(self.network.parameters())
        return Optimisation(self.optimizer, parameters, self.device, self.settings.precision, self.grad_scaler)

    def _compute_loss(self, batch: dict[str, Tensor]) -> Tensor:
        # The processes' gradients are averaged.
        return self.objective.training_loss(self.parallel_network, batch) * self.processes.count
