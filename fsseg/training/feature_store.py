"""Features of crops on disk: a further training on the same crops of the same frozen network computes none of them.

An entry holds the features of one crop, and is named by the hash of all that decides them: the network in front of its
heads, the voxels of the crop, the precision and the processor. So methods share what they read, and so do trainings on
other structures or with other settings, as far as their crops are the same. Nothing else refers to an entry.
"""

import hashlib
import json
import logging
import platform
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fsseg.config.base import Precision
from fsseg.config.cache_files import complete_or_absent
from fsseg.models.parts import parts_of
from fsseg.models.weights_hash import hash_of_weights
from fsseg.training.placement import computing_dtype

log = logging.getLogger(__name__)

FEATURES_NAME = "fsseg_features"
MOST_GIB = 20.0  # on disk; the entries that were used longest ago make room
FREE_GIB = 5.0  # that are left to others
_GIB = 2**30
_SUFFIX = ".safetensors"
_KEY = "features"
_CPU = torch.device("cpu")  # a GPU computes features in a fraction of the time; it was not tried there


class FeatureStore:
    """The entries of one network in a folder that all networks share.

    Args:
        folder: of the entries; it may be deleted at any time.
        network: whose features they are; nothing in front of its heads is trained.
        settings: what else decides what it computes, such as window sizes, which weights do not show.
        precision: in which it computes.

    Attributes:
        found: how many features were read.
    """

    def __init__(self, folder: Path, network: nn.Module, settings: object, precision: Precision) -> None:
        self.folder = folder
        processor = (platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
        computes = (torch.__version__, str(computing_dtype(_CPU, precision)), *processor)
        decides = [_hash_of_body(network), settings, computes]
        self._decides = json.dumps(decides, sort_keys=True, default=str).encode()
        self.found = 0
        self._own: set[Path] = set()
        self._bytes = sum(_sizes(folder).values())
        self._full = False

    def entry(self, image: Tensor) -> Path:
        """Return the file of a crop (channels, D, H, W)."""
        digest = hashlib.sha256(self._decides)
        digest.update(f"{tuple(image.shape)}{image.dtype}".encode())
        digest.update(image.contiguous().numpy().data)
        return self.folder / f"{digest.hexdigest()}{_SUFFIX}"

    def read(self, entry: Path) -> Tensor | None:
        """Return features (features, D, H, W); None where there are none, or where they are damaged, which is said."""
        if not entry.is_file():
            return None
        try:
            with safe_open(entry, framework="pt") as file:
                features = file.get_tensor(_KEY)
            entry.touch()
        except FileNotFoundError:  # another process has just made room
            return None
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged and is made again: %s", entry, error)
            return None
        self._own.add(entry)
        self.found += 1
        return features

    def write(self, entry: Path, features: Tensor) -> None:
        """Keep features; where there is no room, that is said once, and no more are kept."""
        size = features.numel() * features.element_size()
        if self._full or not self._has_room(size):
            return
        try:
            with complete_or_absent(entry) as temporary:
                save_file({_KEY: features.contiguous()}, temporary)
        except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
            self._stop(f"cannot be written ({error})")
            return
        self._own.add(entry)
        self._bytes += size

    def _has_room(self, size: int) -> bool:
        """Make room for an entry, and return whether there is."""
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir())
        if shutil.disk_usage(existing).free - size < FREE_GIB * _GIB:
            self._stop(f"are not kept: the disk has less than {FREE_GIB:g} GiB left")
        elif self._bytes + size > MOST_GIB * _GIB and not self._make_room(size):
            self._stop(f"are kept up to {MOST_GIB:g} GiB only")
        return not self._full

    def _make_room(self, size: int) -> bool:
        """Remove the entries that were used longest ago, but for those of this training."""
        sizes = _sizes(self.folder)
        self._bytes = sum(sizes.values())
        others = sorted(sizes.keys() - self._own, key=_last_used)
        while others and self._bytes + size > MOST_GIB * _GIB:
            oldest = others.pop(0)
            oldest.unlink(missing_ok=True)
            self._bytes -= sizes[oldest]
        return self._bytes + size <= MOST_GIB * _GIB

    def _stop(self, reason: str) -> None:
        self._full = True
        log.warning("Features in %s %s. The training goes on without.", self.folder, reason)


def _hash_of_body(network: nn.Module) -> str:
    """Return a hash of the weights in front of the heads; new heads and what a method adds to them do not change it."""
    of_heads = {id(tensor) for tensor in parts_of(network).heads.state_dict(keep_vars=True).values()}
    state = network.state_dict(keep_vars=True)
    return hash_of_weights({name: tensor for name, tensor in state.items() if id(tensor) not in of_heads})


def _sizes(folder: Path) -> dict[Path, int]:
    """Return the bytes of every entry."""
    sizes = {}
    for entry in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another process has just made room
            sizes[entry] = entry.stat().st_size
    return sizes


def _last_used(entry: Path) -> float:
    with suppress(OSError):
        return entry.stat().st_mtime
    return 0.0
