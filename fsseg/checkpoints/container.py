"""What is in a checkpoint file: the tensors under their bare names, and everything else beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fsseg.config.errors import FssegError, UsageError, first_of
from fsseg.nnunet.checkpoint_content import checked_checkpoint, problems_of_tensors
from fsseg.nnunet.checkpoint_file import WEIGHTS_HASH_KEY, require_intact_weights
from fsseg.training.torch_file import read_torch_file

# Under which key published files keep their tensors; in this order, because some files hold two of these.
_WRAPPERS = ("network_weights", "net", "state_dict", "model_state_dict", "student", "model")
# What training scripts put in front of the names: DistributedDataParallel, torch.compile, and modules around a network.
_PREFIXES = ("module.", "_orig_mod.", "features.", "backbone.", "model.")
_SHOWN = 6
_LONGEST_NAME, _SHOWN_NAME = 300, 40


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint file.

    Attributes:
        path: the file.
        weights: tensors by name, without the prefixes of training scripts.
        rest: everything else in the file, such as epoch and plans.
        wrapper: key that the tensors were under; empty if they were the whole file.
        prefixes: the prefixes that were taken off.
    """

    path: Path
    weights: dict[str, Tensor] = field(repr=False)
    rest: dict[str, Any] = field(repr=False)
    wrapper: str
    prefixes: tuple[str, ...]

    def has(self, *names: str) -> bool:
        """Return whether the file holds tensors of all these names."""
        return all(name in self.weights for name in names)

    def has_prefix(self, prefix: str) -> bool:
        """Return whether any name starts so."""
        return any(name.startswith(prefix) for name in self.weights)

    def require_input_channels(self, name: str, channels: int, what: str) -> None:
        """Raise `UsageError` if the first convolution `name` does not read `channels` image channels."""
        found = self.weights[name].shape[1]
        if found != channels:
            raise UsageError(
                f"{self.path} takes {found} image channel(s), by the shape of {name}: "
                f"{tuple(self.weights[name].shape)}.\n"
                f"  {what} takes {channels}. This is not one of the published files."
            )

    def description(self) -> str:
        """Return what is in the file, for messages."""
        shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in self.weights.items()]
        where = f"under {self.wrapper!r}" if self.wrapper else "as the whole file"
        others = ", ".join(map(str, self.rest)) or "nothing"
        return f"{len(shapes)} tensors {where}: {first_of(shapes, _SHOWN)}; beside them: {others}"


def open_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint file without executing pickled code, and take off what is around the names of its tensors.

    Raises:
        UsageError: the file is missing.
        FssegError: it is damaged, holds objects that would execute code, or holds no tensors.
    """
    if not path.is_file():
        raise UsageError(f"Checkpoint file not found: {path}\n  Give the file itself, not its folder.")
    content = read_torch_file(path)
    if WEIGHTS_HASH_KEY in content:  # of fsseg; what others wrote is seen to be finite when it is transferred
        checked_checkpoint(content, path)
        require_intact_weights(content, path)
    wrapper = next((key for key in _WRAPPERS if _holds_tensors(content.get(key))), "")
    if not wrapper and not _holds_tensors(content):
        raise FssegError(
            f"{path} holds no tensors that could be weights.\n"
            f"  in the file: {', '.join(map(str, content)) or 'nothing'}\n"
            f"  looked for: a mapping of names to tensors, as the whole file or under {', '.join(_WRAPPERS)}"
        )
    tensors = content[wrapper] if wrapper else content
    weights, prefixes = _bare(tensors, path)
    rest = {key: value for key, value in content.items() if key != wrapper and not isinstance(value, Tensor)}
    return Checkpoint(path, weights, rest, wrapper, prefixes)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())


def _bare(tensors: Mapping[str, Any], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    weights: dict[str, Tensor] = {}
    seen: dict[str, None] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            continue
        bare = str(name)
        while prefix := next((prefix for prefix in _PREFIXES if bare.startswith(prefix)), ""):
            bare = bare.removeprefix(prefix)
            seen[prefix] = None
        if len(bare) > _LONGEST_NAME or not bare.isprintable():
            raise FssegError(
                f"{path} is damaged: {bare[:_SHOWN_NAME]!r}… ({len(bare)} letters) is no name of a tensor."
            )
        if bare in weights:
            raise FssegError(f"{path} holds {bare!r} twice, with and without a prefix ({', '.join(seen)}).")
        weights[bare] = tensor
    problem = problems_of_tensors(weights)
    if problem:
        raise FssegError(f"The weights in {path} {problem}.")
    return weights, tuple(seen)
