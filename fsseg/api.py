"""The Python API of the main job: what `fsseg adapt` and `fsseg predict` do, without files in between."""

import os
from pathlib import Path

from fsseg.nnunet.model_folder import ModelFolder


def load_model(path: str | os.PathLike[str]) -> ModelFolder:
    """Load a trained nnU-Net model to start from.

    Args:
        path: a model folder, as `fsseg pretrain`, `fsseg import`, `fsseg adapt` and nnU-Net leave it.

    Raises:
        fsseg.config.errors.UsageError: the folder is no model folder, or is unfinished.
        fsseg.config.errors.FssegError: a file is damaged.

    Example:
        >>> base = fsseg.load_model("runs/universal")
        >>> base.structures.names
        ('liver', 'spleen')
    """
    return ModelFolder.read(Path(path))
