"""Several adaptations of one base as one network: the base in memory once, its encoder run once where it can be."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.models.parts import parts_of


class StackedNetworks(nn.Module):
    """Run adapted networks on the same input and return their logits one behind the other, channel-wise.

    Tensors that no adaptation changed are shared, from an iterator before it makes the next one, so that the base is
    never in memory more than twice. Networks whose encoder is the base's use the features that the first
    of them computed, if the encoder is one module (PlainConvUNet, ResidualEncoderUNet, SwinUNETR).

    Args:
        adapted: adaptations of one base; their networks are changed in place and belong to the stack afterwards.

    Attributes:
        shared_encoders: how many networks use the features that another one computed.
        channels: which of all logits, counted over the networks one behind the other, are returned and in which order;
            None for all as they are.
    """

    def __init__(self, adapted: Iterable[AdaptedNetwork]) -> None:
        super().__init__()
        shared: dict[str, nn.Parameter] = {}
        adapted = [_with_shared(one, shared) for one in adapted]
        plain = [a for a in adapted if _encoder_is_untouched(a)]
        self.shared_encoders = max(0, len(plain) - 1)
        if self.shared_encoders:
            keep = _KeepOutput()
            _encoder(plain[0]).register_forward_hook(keep)
            for other in plain[1:]:
                _replace_encoder(other, _Reuse(keep))
        # A network that reuses features must come after the one that computes them.
        self.order = [adapted.index(a) for a in sorted(adapted, key=lambda a: a in plain[1:])]
        self.networks = nn.ModuleList([a.network for a in adapted])
        self.channels: list[int] | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (batch, all structures, z, y, x) of an image (batch, channels, z, y, x)."""
        logits = {index: self.networks[index](image) for index in self.order}
        joined = torch.cat([logits[index] for index in range(len(self.networks))], dim=1)
        return joined if self.channels is None else joined[:, self.channels]


class _KeepOutput:
    """A forward hook that keeps what the encoder returned last."""

    output: Any = None

    def __call__(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        self.output = output


class _Reuse(nn.Module):
    """Stands for an encoder that has run already."""

    def __init__(self, kept: _KeepOutput) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, *_: Any) -> Any:
        return self.kept.output


def _encoder(adapted: AdaptedNetwork) -> nn.Module:
    return parts_of(adapted.network).encoder


def _encoder_name(adapted: AdaptedNetwork) -> str | None:
    """Return the name of the encoder in the network; None if it is not one module there."""
    encoder = _encoder(adapted)
    return next((name for name, module in adapted.network.named_modules() if module is encoder), None)


def _encoder_is_untouched(adapted: AdaptedNetwork) -> bool:
    if _encoder_name(adapted) is None:
        return False
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in _encoder(adapted).modules())
    return not hooked and not any(p.requires_grad for p in _encoder(adapted).parameters())


def _replace_encoder(adapted: AdaptedNetwork, encoder: nn.Module) -> None:
    """Put another module in every place where the encoder is (nnU-Net's decoder keeps a second reference)."""
    old = _encoder(adapted)
    for parent in list(adapted.network.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, encoder)


def _with_shared(one: AdaptedNetwork, shared: dict[str, nn.Parameter]) -> AdaptedNetwork:
    """Let every tensor that an adaptation leaves as it is in the base be one parameter in all networks.

    The parameter and not only its storage: moving the networks to a device copies every parameter on its own.

    Args:
        one: the adaptation; changed in place and returned.
        shared: the parameters of the networks before it, to which those are added that only this one leaves alone.
    """
    heads = {p for head in parts_of(one.network).heads for p in head.parameters()}
    for name, module in list(one.network.named_modules()):
        for attribute, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad and parameter not in heads:
                # Under a parametrization the base's tensor is called parametrizations.weight.original.
                plain = f"{name}.{attribute}".replace(".parametrizations.", ".").removesuffix(".original")
                setattr(module, attribute, shared.setdefault(plain, parameter))
    return one
