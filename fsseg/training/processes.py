"""Training in several processes, as `torchrun` starts them: who is who, and how their crops come together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from fsseg.config.errors import FssegError, UsageError
from fsseg.training.crop_statistics import CropStatistics

_LOST_PEER = ("closed by peer", "reset by peer", "connection refused", "nccl", "timed out")


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Attributes:
        rank: number of this process; process 0 writes the files.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Return the processes of the process group, or this one alone."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def writes(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def share_of(self, batch_size: int) -> int:
        """Return how many crops of a batch this process takes; raise `UsageError` if it cannot be split evenly."""
        if batch_size % self.count:
            raise UsageError(
                f"A batch of {batch_size} crops cannot be split over {self.count} processes.\n"
                f"  The plans' batch_size is that of all processes together: choose a multiple of {self.count}."
            )
        return batch_size // self.count

    def gather(self, statistics: CropStatistics) -> CropStatistics:
        """Return the statistics of the crops of all processes, in the order of the batch.

        Gradients flow to the crops of this process only. The loss of the whole batch times `count` then has the right
        gradient after the processes' gradients are averaged, which is what DistributedDataParallel does.
        """
        if self.count == 1:
            return statistics
        own = torch.stack(statistics.tensors())  # (5, B, C): one message a step, not five
        parts = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(parts, own.detach())
        parts[self.rank] = own
        return CropStatistics(*torch.cat(parts, dim=1))

    def highest(self, number: int, device: torch.device) -> int:
        """Return the highest of the numbers that the processes give."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number, device=device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor


def started_by_torchrun() -> bool:
    """Return whether this process is one of several that `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes_of_host() -> int:
    """Return how many processes of this training run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def several_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that `torchrun` started, if it did; give the device of this one.

    Gloo connects processes on a CPU, NCCL those on CUDA devices, of which each process takes one.

    Raises:
        UsageError: more processes than CUDA devices.
        FssegError: another process was not found, or lost.
    """
    if not started_by_torchrun():
        yield Processes(), device
        return
    try:
        device = _own_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        Processes.current().wait()  # all have checked their arguments before the first writes
        yield Processes.current(), device
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not any(sign in str(error).lower() for sign in _LOST_PEER):
            raise
        raise FssegError(
            f"The connection to another process of this training was lost: {str(error).splitlines()[0]}\n"
            "  If that process stopped, its own message says why. Continue with --resume; the last checkpoint stays."
        ) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _own_device(device: torch.device) -> torch.device:
    """Return the device of this process: of several CUDA devices the one with its number on this machine."""
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise UsageError(
            f"Several processes were started, and each takes a CUDA device of its own, but --device {device} was given."
            "\n  Give --device cuda, and choose devices by CUDA_VISIBLE_DEVICES."
        )
    processes, devices = processes_of_host(), torch.cuda.device_count()
    if processes > devices:
        raise UsageError(
            f"{processes} processes were started on this machine, but it has {devices} CUDA device(s).\n"
            f"  Each takes one: start at most {devices} (torchrun --nproc-per-node), or train with --device cpu."
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device
