"""Memory of this machine and of this process, as each system tells it."""

import os
import sys

MIB = 2**20


def peak_resident_mib() -> float:
    """Return the most memory that this process has had so far."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / MIB
    import resource

    unit = 1024 if sys.platform != "darwin" else 1  # Linux reports KiB, macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def installed_bytes() -> int:
    """Return how much memory this machine has."""
    if sys.platform == "linux":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import psutil

    return psutil.virtual_memory().total
