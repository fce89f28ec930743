"""On what a run was computed, for its manifest: the machine, and the code where fsseg runs from a checkout."""

import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

_GIT_SECONDS = 10.0  # a network drive may hang


def machine() -> dict[str, Any]:
    """Return host name, model of the CPU, cores, threads, and the CUDA devices if this process used them."""
    torch: Any = sys.modules.get("torch")  # what has not imported torch has computed without it
    used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if used else ()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_allowed": cores_allowed(),
        "threads": None if torch is None else torch.get_num_threads(),
        "cuda_devices": [torch.cuda.get_device_name(number) for number in devices],
    }


def cores_allowed() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def cpu_model() -> str:
    """Return the model of the CPU as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


@functools.cache
def code_version(package: Path) -> dict[str, Any] | None:
    """Return commit, and whether files differ from it, of the checkout that a package runs from; None if from none.

    Args:
        package: its folder. A checkout that merely surrounds an installed package, as around a virtual environment,
            does not count.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != package.parent.resolve() or not _git(package, "ls-files", "__init__.py"):
        return None
    status = _git(package, "status", "--porcelain", "--", ".")
    return {"commit": _git(package, "rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def _git(folder: Path, *words: str) -> str | None:
    """Return what git says, or None if it cannot; nothing in the checkout is written, and none of its hooks run."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *words],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            encoding="utf-8",
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
