"""Working inside the folder of a demo, part by part."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsseg.nnunet.environment import nnunet_folders

log = logging.getLogger(__name__)

RAW, PREPROCESSED = Path("nnUNet_raw"), Path("nnUNet_preprocessed")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work inside `folder`, with nnU-Net's folders in it.

    All paths in the manifests are relative to it then, and stay true when it gets its final name.
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        with nnunet_folders(raw=RAW, preprocessed=PREPROCESSED):
            yield
    finally:
        os.chdir(before)


class Stopwatch:
    """Says what is being done, and notes how long it took.

    Attributes:
        seconds: part -> how long it took.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str, text: str) -> Iterator[None]:
        """Time a part of the demo."""
        log.info("%s: %s", name, text)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 1)
