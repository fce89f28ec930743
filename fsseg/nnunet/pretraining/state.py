"""What a checkpoint of a pretraining holds besides the weights, so that a resumed run equals an uninterrupted one."""

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from fsseg.nnunet.contents import CheckpointContent
from fsseg.training.course import Course

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.resumable_trainer import ResumableTrainer


def training_state(trainer: "ResumableTrainer", *, average: bool) -> CheckpointContent:
    """Return optimiser, logs and place in the training as plain values and tensors; its place says what is random.

    Args:
        trainer: an initialised trainer.
        average: with the averaged weights, if there are any.
    """
    logged = trainer.logger.get_checkpoint()
    return {
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": None if trainer.grad_scaler is None else trainer.grad_scaler.state_dict(),
        # What nnU-Net logged of an epoch that is not over, it logs again when that epoch is resumed.
        "logging": _plain({key: log[: trainer.current_epoch] for key, log in logged.items()}),
        "current_epoch": trainer.current_epoch,
        "steps_in_epoch": trainer.steps_in_epoch,
        "step_losses": trainer.step_losses,
        "average": trainer.average.state_dict() if average and trainer.average is not None else None,
        "course": trainer.course.state(),
    }


def restore_training(trainer: "ResumableTrainer", state: CheckpointContent) -> None:
    """Put an initialised trainer into the state of a checkpoint."""
    trainer.plain_network.load_state_dict(state["network_weights"])
    if trainer.average is not None and state["average"] is not None:
        trainer.average.load_state_dict(state["average"])
    elif trainer.average is not None:  # the training had ended: what was saved is the average
        trainer.average.module.load_state_dict(state["network_weights"])
    trainer.optimizer.load_state_dict(state["optimizer_state"])
    if trainer.grad_scaler is not None and state["grad_scaler_state"] is not None:
        trainer.grad_scaler.load_state_dict(state["grad_scaler_state"])
    trainer.logger.load_checkpoint(state["logging"])
    trainer.current_epoch = state["current_epoch"]
    trainer.steps_in_epoch, trainer.step_losses = state["steps_in_epoch"], state["step_losses"]
    trainer.course = Course.going_on(state.get("course"), trainer.steps_done)


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays inside nested containers into plain Python values."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return deepcopy(value.tolist()) if hasattr(value, "tolist") else value
