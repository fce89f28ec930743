"""The manifest of a run: config, seed, versions, machine, inputs with hashes, seconds and peak memory."""

import hashlib
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fsseg.config.host_memory import peak_resident_mib
from fsseg.config.json_files import write_json
from fsseg.config.machine import code_version, machine

MANIFEST_NAME = "manifest.json"
_PACKAGE = Path(__file__).parents[1]
_PACKAGES = ("fsseg", "torch", "nnunetv2", "monai", "SimpleITK", "numpy")


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(file)


def sha256_of_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file, or of the hashes of several ones in their order."""
    hashes = [sha256_of_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


class Manifest:
    """Collects what a run was made from; `write` puts it as manifest.json into the run folder."""

    def __init__(self, command: str, config: dict[str, Any], seed: int | None = None) -> None:
        self.content: dict[str, Any] = {"command": command, "config": config, "seed": seed}
        self.content["versions"] = package_versions()
        self.content["code"] = code_version(_PACKAGE)  # now: files may change while the run goes on
        self.content["inputs"] = {}
        self._started = time.perf_counter()
        self._earlier_seconds = 0.0
        self._runs = True

    def add_inputs(self, paths: Iterable[Path]) -> None:
        """Record the hash of each input file."""
        for path in paths:
            self.content["inputs"][str(path)] = sha256_of_file(path)

    def add_hashes(self, hashes: Mapping[str, str]) -> None:
        """Record path -> hash of inputs whose hash is known."""
        self.content["inputs"].update(hashes)

    def add(self, **facts: Any) -> None:
        """Record results and facts of the run, such as trainable parameters; plain JSON values only."""
        self.content.update(facts)

    def add_seconds(self, seconds: float) -> None:
        """Count seconds that the run took before it was stopped, as far as what they gave is kept."""
        self._earlier_seconds += seconds

    def stop_clock(self) -> None:
        """Count no further seconds: the run is done, and is written some time."""
        self._earlier_seconds += time.perf_counter() - self._started
        self._runs = False

    def write(self, folder: Path) -> dict[str, Any]:
        """Complete the manifest with seconds and peak memory, write it, and return its content."""
        now = time.perf_counter() - self._started if self._runs else 0.0
        self.content["seconds"] = round(self._earlier_seconds + now, 3)
        self.content["peak_memory_mib"] = peak_memory_mib()
        self.content["machine"] = machine()
        write_json(folder / MANIFEST_NAME, self.content)
        return self.content


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def peak_memory_mib() -> dict[str, float]:
    """Return the peak resident memory of this process and, where CUDA was used, of the device, in MiB."""
    peaks = {"host": round(peak_resident_mib(), 1)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["device"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peaks


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
