"""Every method on every tiny network that it is defined on, and how to move, train and read what it adapts."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from tiny import ARCHITECTURES, biases_before_norm, image_for, tiny_network
from torch import Tensor, nn

from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import DecoderChoice
from fsseg.methods.registry import create_method, method_class, method_names

LEARNING_RATE = 1e-2


# The tiny networks have layers of four channels, and query-key-value projections of twelve inputs.
FITTING_OPTIONS: dict[str, dict[str, Any]] = {
    "lora_tucker": {"rank": 4},
    "adalora": {"rank": 4, "target_rank": 2},
    "arena": {"rank": 4},
    "arena:paper": {"rank": 12},
}


class Case(NamedTuple):
    """One method on one network with one decoder choice."""

    method: str
    decoder: DecoderChoice
    network: str

    def adapt(self, *, seed: int = 0, **options: Any) -> AdaptedNetwork:
        """Adapt a network, anew each time; a copy of one on the attention network, where it takes half a second."""
        if self.network == "swin" and seed == 0 and not options:
            return deepcopy(_adapted_once(self))
        return self._adapt(seed, options)

    def _adapt(self, seed: int, options: dict[str, Any]) -> AdaptedNetwork:
        torch.manual_seed(seed)
        method = create_method(self.method, {**FITTING_OPTIONS.get(self.method, {}), **options})
        return AdaptedNetwork(tiny_network(self.network), method, self.decoder)


@cache
def _adapted_once(case: Case) -> AdaptedNetwork:
    return case._adapt(0, {})


ALL = [
    Case(method, decoder, network)
    for method in method_names()
    for network in ARCHITECTURES
    for decoder in method_class(method).decoder_choices
    # A step of the attention network takes a second, so it gets one decoder choice of each method, and FSEFT's pair.
    if network != "swin" or decoder == method_class(method).decoder_choices[0] or method == "lora:fseft"
]
# What must be refused, with a part of the reason. Everything else must be defined.
CONVOLUTIONAL = ("plain", "residual", "plain_batch_norm")
DECODERS: tuple[DecoderChoice, ...] = ("frozen", "tuned")
UNDEFINED: dict[Case, str] = {
    Case(method, decoder, network): reason
    for methods, networks, decoders, reason in [
        (["lora:fseft", "adalora:arena", "arena:paper"], CONVOLUTIONAL, DECODERS, "layers=qkv finds no layer to adapt"),
        (["bitfit:fseft"], CONVOLUTIONAL, DECODERS, "no bias there has an effect"),
        (["dora"], ("plain", "residual"), ("tuned",), "takes its magnitude out again, which makes it LoRA"),
        (["tinytl", "tinytl:fseft"], ("swin",), ("frozen",), "a method of convolutional networks.*\n.*Use bitfit"),
        (["residual_adapter", "residual_adapter:zero"], ("swin",), ("frozen",), "no centred convolution"),
    ]
    for method in methods
    for network in networks
    for decoder in decoders
}
CASES = [case for case in ALL if case not in UNDEFINED]
# A preset is a method with other options: what options cannot break is tested on the methods themselves.
METHOD_CASES = [case for case in CASES if ":" not in case.method]
# What a method puts into a network decides its state, copies and layout. A new method gets a place here.
INSERTIONS: dict[str, tuple[str, ...]] = {
    "nothing": ("full", "from_scratch", "l2_sp", "decoder", "linear_probe", "prototype", "bitfit", "affine", "tinytl"),
    "in weights": ("lora", "lora_tucker", "dora", "adalora", "arena", "residual_adapter"),
    "in weights and biases, shared": ("ssf",),
    "behind modules": ("adaptformer", "conv_adapter"),
    "behind modules, shared": ("compacter",),
    "before the head": ("spatial_adapter",),
}
REPRESENTATIVES = {methods[0] for methods in INSERTIONS.values()}
INSERTION_CASES = [case for case in METHOD_CASES if case.method in REPRESENTATIVES]


def is_near(case: Case) -> bool:
    """Whether a case is for every run of the tests: all methods on one network, one a kind of insertion on others."""
    is_first = case.decoder == method_class(case.method).decoder_choices[0]
    return case.network == "plain" or (is_first and case.network != "swin" and case.method in REPRESENTATIVES)


def parametrized(cases: Sequence[Case], near: Callable[[Case], bool] = is_near) -> pytest.MarkDecorator:
    """Run a test with each of the cases; those that are not near are in the full tier."""
    full = (pytest.mark.full,)
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id="-".join(case), marks=() if near(case) else full) for case in cases]
    )


def trained_apart_from_rounding(adapted: AdaptedNetwork) -> dict[str, nn.Parameter]:
    """Trainable tensors, without the biases that a norm takes out again and nnU-Net trains all the same."""
    dead = {id(bias) for bias in biases_before_norm(adapted.network)}
    return {name: p for name, p in adapted.trainable().items() if id(p) not in dead}


def randomise(adapted: AdaptedNetwork, seed: int = 7) -> None:
    """Move every trained tensor by N(0, 0.3 rms + 0.05): far enough to matter, near enough to stay finite."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.trainable().values():
            deviation = 0.3 * parameter.square().mean().sqrt() + 0.05
            parameter.add_(deviation * torch.randn(parameter.shape, generator=generator))


def loss_of(adapted: AdaptedNetwork) -> Tensor:
    """Return a random projection of the logits, scaled so that a head bias has a gradient of about one."""
    logits = adapted.network(image_for(adapted.network))
    projection = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    penalty = adapted.method.penalty(adapted.network)
    return (logits * projection).sum() / logits.numel() ** 0.5 + (0 if penalty is None else penalty)


def train(adapted: AdaptedNetwork, steps: int = 3) -> None:
    """Take AdamW steps without weight decay, in the order of the training loop; leave evaluation mode on."""
    optimizer = torch.optim.AdamW(adapted.trainable().values(), LEARNING_RATE, weight_decay=0.0)
    adapted.train_mode()
    adapted.method.on_training_start(adapted.network, least_steps=1000)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(adapted).backward()
        adapted.method.before_step(adapted.network)
        optimizer.step()
        adapted.method.after_step(adapted.network, LEARNING_RATE)
    adapted.network.eval()


@cache
def logits_of_base(kind: str) -> Tensor:
    return logits_of(tiny_network(kind))


@torch.no_grad()
def logits_of(network: nn.Module) -> Tensor:
    return network(image_for(network))
