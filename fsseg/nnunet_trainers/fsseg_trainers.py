"""What nnU-Net finds when nnUNet_extTrainer names this folder: it imports every module of it on its own."""

import sys
from types import TracebackType

from fsseg.adaptation.trainer import nnUNetTrainerFewShot
from fsseg.config.errors import FssegError
from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

__all__ = ["nnUNetTrainerFewShot", "nnUNetTrainerPartialLabel"]


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print what fsseg refuses as a message, as its own commands do, and everything else as Python does."""
    if isinstance(error, FssegError):
        sys.stderr.write(f"fsseg: {error}\n")
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _report
