"""What a method put into a network of one's own: to train, save and merge it."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.config.recipes import Rates
from fsseg.methods.adapted_network import AdaptationReport, AdaptedNetwork
from fsseg.methods.adapter_tensors import read_tensors, write_tensors
from fsseg.methods.norm_statistics import follow_statistics
from fsseg.methods.plain_network import fold_parametrizations
from fsseg.models.parts import forget_parts

_HANDLE = "_fsseg_adapter"  # the attribute of a network


class NetworkAdapter:
    """What a method put into a network: what to train, what to do around a step, and how to save or merge it.

    Attributes:
        name: of the method, with its preset.
        network: the network.
        notes: what to know of the method on this network.

    Example:
        >>> adapter = fsseg.adapter_of(network)
        >>> for image, target in batches:
        ...     optimizer.zero_grad()
        ...     (criterion(network(image), target) + adapter.penalty()).backward()
        ...     adapter.before_step()
        ...     optimizer.step()
        ...     adapter.after_step(learning_rate)
    """

    def __init__(self, name: str, adapted: AdaptedNetwork, trained_before: dict[str, bool]) -> None:
        self.name = name
        self.network = adapted.network
        self.notes = adapted.notes
        self._adapted = adapted
        self._method = adapted.method
        self._trained_before = trained_before

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by their name in the network."""
        return self._adapted.trainable()

    def parameter_groups(
        self, lr: float, *, decoder_lr: float | None = None, head_lr: float | None = None
    ) -> list[dict[str, Any]]:
        """Return groups for an optimiser, without weight decay where the method forbids it.

        Args:
            lr: learning rate.
            decoder_lr: of a tuned decoder; None takes `lr`.
            head_lr: of the head; None takes `lr`.
        """
        return self._adapted.parameter_groups(Rates(lr, decoder_lr or lr, head_lr or lr))

    def report(self) -> AdaptationReport:
        """Return how many layers are changed, and how many parameters are trained."""
        return self._adapted.report()

    def ranks(self) -> dict[str, int]:
        """Return the effective rank of every layer with a low-rank update, by its name."""
        return self._method.ranks(self.network)

    def start(self, steps: int) -> None:
        """Say how long a training takes at least, to which some methods fit what they do (adalora)."""
        self._method.on_training_start(self.network, steps)

    def penalty(self) -> Tensor:
        """Return what the method adds to the loss: a scalar, zero for most methods."""
        penalty = self._method.penalty(self.network)
        return next(iter(self.trainable().values())).new_zeros(()) if penalty is None else penalty

    def before_step(self) -> None:
        """Call after the backward pass, with unscaled gradients, and before the optimiser's step."""
        self._method.before_step(self.network)

    def after_step(self, learning_rate: float) -> None:
        """Call after the optimiser's step; not after one that a gradient scaler skipped.

        Args:
            learning_rate: of the method's parameters in this step.
        """
        self._method.after_step(self.network, learning_rate)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors that distinguish the network from the one it was, on the CPU."""
        return self._adapted.compact_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what `state_dict` returned; raise `fsseg.config.errors.FssegError` where it does not fit."""
        self._adapted.load_state(state)

    def save(self, path: str | Path) -> None:
        """Write `state_dict` to a safetensors file, with the method and its options; complete or absent."""
        write_tensors(Path(path), self.state_dict(), self._settings())

    def load(self, path: str | Path) -> None:
        """Read a file of `save` into a network to which the same method is applied with the same options.

        Raises:
            fsseg.config.errors.UsageError: there is no such file, or it is of another method or other options.
            fsseg.config.errors.FssegError: the file is damaged, or its tensors do not fit the network.
        """
        self._adapted.load_state(read_tensors(Path(path), self._settings()))

    def merge(self) -> nn.Module:
        """Make the network a plain one that computes the same, in place, and return it; it has its own names again.

        Raises:
            fsseg.config.errors.UsageError: the method changes more than weights; the network stays adapted.
        """
        self._adapted.require_mergeable()
        fold_parametrizations(self.network, self._adapted.plain_keys)
        follow_statistics(self.network)
        for name, p in self.network.named_parameters():
            p.requires_grad_(self._trained_before[name])
        forget_parts(self.network)
        del self.network.__dict__[_HANDLE]
        return self.network

    def _settings(self) -> dict[str, Any]:
        options = self._method.options.model_dump(mode="json")
        return {"method": self.name.partition(":")[0], "options": options, "decoder": self._adapted.decoder}


def adapter_of(network: nn.Module) -> NetworkAdapter:
    """Return what `apply_method` put into a network, or into the one that it is a copy of.

    Raises:
        fsseg.config.errors.UsageError: no method is applied to it.

    Example:
        >>> fsseg.adapter_of(network).report().trainable
        34816
    """
    if _HANDLE not in network.__dict__:
        raise UsageError(f"No method is applied to this {type(network).__name__}: fsseg.apply_method does it.")
    return network.__dict__[_HANDLE]


def attach_adapter(adapter: NetworkAdapter) -> None:
    """Let the network know its adapter; copies of the network get a copy of it."""
    adapter.network.__dict__[_HANDLE] = adapter


def has_adapter(network: nn.Module) -> bool:
    """Return whether a method is applied to a network."""
    return _HANDLE in network.__dict__
