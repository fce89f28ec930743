"""Batches of augmented crops: seeded, so that crop number `i` is always the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fsseg.config.errors import FssegError
from fsseg.config.stopping import ignore_stop_signals
from fsseg.data.crops import CropSampler
from fsseg.training.seeding import seeded

# (channels, *crop_size) image and (2, *crop_size) labels -> the same of the patch size, as tensors
Augmentation = Callable[[np.ndarray, np.ndarray], tuple[Tensor, Tensor]]


class Crops(Dataset[dict[str, Tensor]]):
    """Augmented crops by number; number `i` depends on the seed only, not on workers or on what came before.

    Args:
        sampler: draws and cuts.
        augmentation: turns a crop into a patch.
        first: number of the first crop, larger than 0 in a resumed run.
        count: how many crops there are from there.
        seed: decides everything.
        crops_per_volume: so many consecutive crops come from one volume, and every volume has its turn once before
            one has it again; None draws the volume of every crop.
    """

    def __init__(
        self,
        sampler: CropSampler,
        augmentation: Augmentation,
        *,
        first: int,
        count: int,
        seed: int,
        crops_per_volume: int | None = None,
    ) -> None:
        self.sampler = sampler
        self.augmentation = augmentation
        self.first = first
        self.count = count
        self.seed = seed
        self.crops_per_volume = crops_per_volume
        self.zones = max(volume.zone_annotated.shape[0] for volume in sampler.volumes)

    def __len__(self) -> int:
        return self.count

    @property
    def crops_per_turn(self) -> int:
        """How many crops it takes until every volume has had its turn; 1 without turns."""
        return 1 if self.crops_per_volume is None else self.crops_per_volume * len(self.sampler.volumes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = self.first + index
        plan = self.sampler.draw(np.random.default_rng((self.seed, number)), self._volume(number))
        with seeded(self.seed, number):
            image, labels = self.augmentation(*self.sampler.cut(plan))
        annotated = self.sampler.volumes[plan.volume].zone_annotated
        padded = np.zeros((self.zones, annotated.shape[1]), dtype=bool)
        padded[: len(annotated)] = annotated
        return {"image": image, "labels": labels, "zone_annotated": torch.from_numpy(padded)}

    def _volume(self, number: int) -> int | None:
        """Return the volume whose turn it is; the turns are shuffled anew in every round."""
        if self.crops_per_volume is None:
            return None
        volumes = len(self.sampler.volumes)
        turn_round, turn = divmod(number // self.crops_per_volume, volumes)
        return int(np.random.default_rng((self.seed, turn_round, volumes)).permutation(volumes)[turn])


def batches(
    crops: Crops, batch_size: int, workers: int, *, pin_memory: bool, part: int = 0, parts: int = 1
) -> DataLoader[dict[str, Tensor]]:
    """Return a loader over the crops in order, or over one of several equal parts of every batch.

    Each batch holds image (B, channels, D, H, W), labels (B, 2, D, H, W) and zone_annotated (B, Z, C), where B is
    `batch_size` / `parts`; the parts one behind the other are the batch of one process.
    """
    share = batch_size // parts
    starts = range(part * share, len(crops), batch_size)
    own = [list(range(first, min(first + share, len(crops)))) for first in starts]
    return DataLoader(
        crops, batch_sampler=own, num_workers=workers, pin_memory=pin_memory, worker_init_fn=ignore_stop_signals
    )


@contextmanager
def worker_errors_named() -> Iterator[None]:
    """Turn what torch says of a worker that died or failed into a message; it may come up anywhere in the block.

    Raises:
        FssegError: a worker was killed, could not read a file, or raised an `FssegError` itself.
    """
    try:
        yield
    except (RuntimeError, OSError, FssegError) as error:
        lost = next((text for text in _messages(error) if text.startswith("DataLoader worker (pid")), None)
        if lost is not None:
            raise FssegError(
                f"A process that prepares crops was lost: {lost.splitlines()[0]}\n"
                "  Often the memory of the machine is used up: take fewer with --set workers=N. Give the command again"
                " with --resume; the last checkpoint, if there is one, stays."
            ) from error
        if "in DataLoader worker process" in str(error) and not isinstance(error, RuntimeError):
            raise FssegError(str(error).rpartition("Error: ")[2].rstrip()) from error  # without the worker's traceback
        raise


def _messages(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an error and of its causes: a worker's death may interrupt the writing of a checkpoint."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__
