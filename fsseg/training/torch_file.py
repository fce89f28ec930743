"""Files of torch: complete or absent."""

import errno
from pathlib import Path
from typing import Any

import torch


def write_torch_file(path: Path, content: Any) -> None:
    """Write a file that `torch.load` reads; complete or absent.

    Raises:
        OSError: not all of it could be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    except RuntimeError as error:  # torch's writer does not say that the disk is full
        raise OSError(errno.EIO, "not all bytes could be written, as on a full disk", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
