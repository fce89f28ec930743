"""How much memory this process may take: of the host, within the limits of a container or a job, and of a device."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from fsseg.config.host_memory import MIB

_GROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")
# Files of limit and use, and the key of what the kernel would give back first, in cgroups of version 2 and 1.
_FILES = (
    (_GROUPS, "memory.max", "memory.current", "inactive_file"),
    (_GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def host_available_mib(processes: int = 1) -> float | None:
    """Return what a training has of the host's memory and could still get, or None where the system does not say.

    Args:
        processes: of the training on this host, which have as much each as this one.
    """
    if sys.platform != "linux":
        import psutil

        return (processes * psutil.Process().memory_info().rss + psutil.virtual_memory().available) / MIB
    try:
        own = int((_PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return processes * own + min([free, *_free_in_groups()])


def device_available_mib(device: torch.device) -> float | None:
    """Return what this process has of a CUDA device's memory and could still get; None of another device."""
    if device.type != "cuda":
        return None
    return (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)) / MIB


def _free_in_groups() -> Iterator[float]:
    """Yield the MiB that are left in each cgroup with a limit, of this process and the groups around it."""
    try:
        names = [line.split(":", 2) for line in (_PROCESS / "cgroup").read_text().splitlines()]
    except OSError:
        return
    for root, limit, use, reclaimable in _FILES:
        for _, controllers, name in (words for words in names if len(words) == 3):
            if controllers not in ("", "memory"):
                continue
            folder = root / name.strip("/")
            for group in (folder, *folder.parents):
                if group.is_relative_to(root):
                    yield from _left(group, limit, use, reclaimable)


def _left(group: Path, limit: str, use: str, reclaimable: str) -> Iterator[float]:
    try:
        most, used = int((group / limit).read_text()), int((group / use).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        yield max(0, most - used + int(statistics.get(reclaimable, 0))) / MIB
    except (OSError, ValueError):  # no such group, or "max": no limit
        return
