"""A pretrained network with a method applied: freezing, counting, saving and merging, the same for all methods."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import DecoderChoice, Rates
from fsseg.methods.contract import Method
from fsseg.methods.norm_statistics import frozen_norms, trained_norms
from fsseg.methods.plain_network import plain_weights
from fsseg.methods.registry import plain_name
from fsseg.models.parts import parts_of


@dataclass(frozen=True)
class AdaptationReport:
    """What an adaptation trains: layers changed, and parameters with and without the head."""

    layers: int
    trainable: int
    head: int
    total: int

    def as_dict(self) -> dict[str, int]:
        """Return the report as plain values."""
        return asdict(self)


class AdaptedNetwork:
    """Apply `method` to `network` in place.

    The head is trained unless it is left out, the decoder when `decoder` is "tuned", everything else only as the method
    says.

    Args:
        network: the pretrained network; its heads have the channels of the adapted structures already.
        method: the adaptation method.
        decoder: "frozen" or "tuned"; None takes the method's default.
        train_head: whether the full-resolution head is trained, where the method does not train it itself.

    Raises:
        UsageError: the method does not offer this decoder choice, or is not defined on this network.
    """

    def __init__(
        self, network: nn.Module, method: Method, decoder: DecoderChoice | None = None, *, train_head: bool = True
    ) -> None:
        decoder = require_decoder_choice(method, decoder)
        self.network = network
        self.method = method
        self.decoder = decoder
        self.plain_keys = tuple(network.state_dict())
        parts = parts_of(network)
        heads = {p for head in parts.heads for p in head.parameters()}
        decoder_parameters = list(parts.decoder_parameters()) if decoder == "tuned" else []

        whole = frozenset([*heads, *decoder_parameters])
        reason = method.unsupported_reason(network, whole)
        if reason:
            raise UsageError(f"{plain_name(method)} is not defined on {type(network).__name__}: {reason}")
        self.notes = method.notes(network, whole)

        network.requires_grad_(False)
        known = set(network.parameters())
        self._layers = method.inject(network, whole)
        inserted = [p for p in network.parameters() if p not in known]
        selected = list(method.pretrained_to_train(network, whole))
        self._own = [p for p in [*inserted, *selected] if p not in heads]
        self._decoder = [p for p in decoder_parameters if p not in set(self._own)]
        head = list(parts.head.parameters(recurse=False)) if parts.heads else []
        self._head = head if train_head else [p for p in head if p in set(selected)]
        for parameter in (*self._head, *self._decoder, *self._own):
            parameter.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by their de-duplicated name."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    @property
    def tunes_decoder_besides(self) -> bool:
        """Whether parameters of the decoder are trained that the method does not train itself."""
        return bool(self._decoder)

    def parameter_groups(self, rates: Rates) -> list[dict[str, Any]]:
        """Return optimiser groups: "method" (what it inserts or selects), "decoder" (what else is tuned), "head"."""
        without_decay = set(self.method.no_weight_decay(self.network))
        decayed = [p for p in self._own if p not in without_decay]
        rest = [p for p in self._own if p in without_decay]
        groups: list[dict[str, Any]] = [
            {"name": "method", "params": decayed, "lr": rates.method},
            {"name": "method", "params": rest, "lr": rates.method, "weight_decay": 0.0},
            {"name": "decoder", "params": self._decoder, "lr": rates.decoder},
            {"name": "head", "params": self._head, "lr": rates.head},
        ]
        return [group for group in groups if group["params"]]

    def report(self) -> AdaptationReport:
        """Return what is trained, counted on the live parameters; `trainable` is without the head."""
        head = sum(p.numel() for p in self._head)
        return AdaptationReport(
            layers=len(self._layers),
            trainable=sum(p.numel() for p in self.trainable().values()) - head,
            head=head,
            total=sum(p.numel() for p in self.network.parameters()),
        )

    def train_mode(self) -> None:
        """Set training mode; a normalisation without trained parameters keeps its statistics."""
        self.network.train()
        for norm in frozen_norms(self.network):
            norm.eval()

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the trained tensors by name: all that distinguishes this network from its base.

        Running statistics are among them where a normalisation is trained, because they follow the training data.
        """
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self._changing().items()
        }

    def untouched(self, names: Iterable[str]) -> list[str]:
        """Return those of the plain network's tensors that the adaptation leaves as they are."""
        changing = self._changing()
        return [name for name in names if name not in changing]

    def compact_state(self) -> dict[str, Tensor]:
        """Return `state` as it is saved: the method leaves out what has become zero."""
        return self.method.compact_state(self.state())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load tensors made by `state` or `compact_state`; raise `FssegError` if names, shapes or kinds differ."""
        expected = self._changing()
        try:
            state = self.method.expand_state(state, expected)
        except (KeyError, IndexError, RuntimeError) as error:
            raise FssegError(f"The adapter does not fit its network: {error}") from None
        problems = [f"missing {name}" for name in expected if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in expected]
        problems += [
            f"{name}: {_kind(state[name])}, expected {_kind(p)}"
            for name, p in expected.items()
            if name in state and _kind(state[name]) != _kind(p)
        ]
        if problems:
            raise FssegError("The adapter does not fit its network:\n  " + "\n  ".join(problems[:10]))
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(state[name])

    def _changing(self) -> dict[str, Tensor]:
        statistics = {
            f"{name}.{buffer_name}": buffer
            for name, module in trained_norms(self.network)
            for buffer_name, buffer in module.named_buffers(recurse=False)
        }
        return {**self.trainable(), **statistics}

    def merged_state_dict(self) -> dict[str, Tensor]:
        """Return the weights of a plain network that computes the same, under the plain network's own keys.

        The network is read, not changed. Tensors that nnU-Net lists under several names are formed once.

        Raises:
            UsageError: the method changes more than weights.
        """
        self.require_mergeable()
        return plain_weights(self.network, self.plain_keys)

    def require_mergeable(self) -> None:
        """Raise `UsageError` where the method changes more than weights."""
        if self.method.not_merged_because:
            raise UsageError(
                f"{plain_name(self.method)} cannot be merged into plain weights: {self.method.not_merged_because}"
            )


def require_decoder_choice(method: Method, decoder: DecoderChoice | None) -> DecoderChoice:
    """Return the decoder choice, the method's default for None; raise `UsageError` for one it does not offer."""
    decoder = decoder or method.decoder_choices[0]
    if decoder not in method.decoder_choices:
        raise UsageError(
            f"{plain_name(method)} does not go with --decoder {decoder}.\n"
            f"  allowed: {', '.join(method.decoder_choices)}"
        )
    return decoder


def _kind(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)} of {tensor.dtype}"
