"""A method on a network and in a training loop of one's own, without the rest of fsseg."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from fsseg.config.errors import UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import DecoderChoice, Method
from fsseg.methods.network_adapter import NetworkAdapter, adapter_of, attach_adapter, has_adapter
from fsseg.methods.norm_statistics import keep_statistics
from fsseg.methods.registry import create_method
from fsseg.models.network_parts import NetworkParts
from fsseg.models.parts import forget_parts, known_part_names, name_parts

Network = TypeVar("Network", bound=nn.Module)
_UNTIL_TOLD = 10**9  # steps of a training that nobody has said the length of


def apply_method(
    network: Network,
    method: str = "lora",
    *,
    decoder: DecoderChoice | None = None,
    head: bool | str = False,
    parts: NetworkParts | None = None,
    **options: Any,
) -> Network:
    """Put adapters into any network, in place, and freeze the rest; `adapter_of` then gives what a training needs.

    The network stays what it is: `forward`, `to`, `train` and `eval` work as before, and its output is the same until
    the first step. Norms that are frozen keep their statistics in training mode, too. Layers of 2D networks are
    adapted as those of 3D ones, by the methods that do not need volumes.

    Args:
        network: any module with linear layers or convolutions, such as a MONAI or nnU-Net network.
        method: one of `fsseg methods`, or a registered one.
        decoder: "tuned" trains the decoder whole, too; None is the method's default.
        head: whether the layer that makes the logits is trained, too: True where the network's head is known, else its
            name in the network.
        parts: where encoder, decoder and head lie in the network. It is known of fsseg's, nnU-Net's and registered
            networks; others need it for `decoder="tuned"` and for options such as `targets="encoder"`.
        options: of the method, as `fsseg methods NAME` lists them, such as `rank` and `targets`.

    Returns:
        The network.

    Raises:
        fsseg.config.errors.UsageError: unknown method, wrong options, a submodule that the network lacks, or the method
            is not defined on this network, with the reason. The network is then as it was.

    Example:
        >>> network = fsseg.apply_method(network, "lora", rank=8, head="out")
        >>> adapter = fsseg.adapter_of(network)
        >>> optimizer = torch.optim.AdamW(adapter.parameter_groups(3e-3))
        >>> loss = criterion(network(image), target) + adapter.penalty()
        >>> network = adapter.merge()
    """
    if has_adapter(network):
        raise UsageError(
            f"{adapter_of(network).name} is already applied to this network.\n"
            "  fsseg.adapter_of(network).merge() makes it a plain one."
        )
    made = create_method(method, options)
    names = _named(network, head, parts)
    _require_applicable(network, method, made, names, decoder)
    attach_adapter(_apply(network, made, names, decoder, method, train_head=bool(head)))
    return network


def _apply(
    network: nn.Module,
    method: Method,
    names: NetworkParts,
    decoder: DecoderChoice | None,
    name: str,
    *,
    train_head: bool,
) -> NetworkAdapter:
    """Apply a method, or leave the network as it was."""
    trained_before = {parameter: p.requires_grad for parameter, p in network.named_parameters()}
    name_parts(network, names)
    try:
        adapted = AdaptedNetwork(network, method, decoder, train_head=train_head)
        if not adapted.trainable():
            raise UsageError(f"{name} trains nothing on {type(network).__name__}.\n  {_SAY_PARTS}")
    except UsageError:
        forget_parts(network)
        for parameter, p in network.named_parameters():
            p.requires_grad_(trained_before[parameter])
        raise
    keep_statistics(network)
    method.on_training_start(network, _UNTIL_TOLD)
    return NetworkAdapter(name, adapted, trained_before)


_SAY_PARTS = (
    'Say where its parts lie: parts=fsseg.NetworkParts(encoder=("NAME",), decoder=("NAME",), head="NAME"), and'
    ' head="NAME" to train the head.'
)


def _named(network: nn.Module, head: bool | str, parts: NetworkParts | None) -> NetworkParts:
    """Return the names of the parts, with those of the call before those that are known."""
    names = parts or known_part_names(network) or NetworkParts()
    if isinstance(head, str):
        is_known = bool(names.head) and f"{head}.".startswith(f"{names.head}.")
        return names if is_known else replace(names, head=head)
    if head and not names.head:
        raise UsageError(
            f'Which layer of {type(network).__name__} is its head is not known.\n  Name it: head="NAME", one of'
            f" {', '.join(name for name, _ in network.named_children())} or a module inside."
        )
    return names


def _require_applicable(
    network: nn.Module, name: str, method: Method, names: NetworkParts, decoder: DecoderChoice | None
) -> None:
    """Refuse what a loop of the user's own cannot do, and what needs parts that are not known."""
    kind = type(network).__name__
    if method.training_free:
        raise UsageError(f"{name} takes no step: it sets a head from labelled features.\n  Use fsseg.adapt.")
    if not method.uses_pretrained:
        raise UsageError(f"{name} starts from new weights: build the network anew and train it.")
    if method.reads_features_only and not names.head:
        raise UsageError(f'{name} works on the features in front of the head of {kind}.\n  Name it: head="NAME".')
    needed: Sequence[str] = [getattr(method.options, "targets", "all"), *(["decoder"] if decoder == "tuned" else [])]
    missing = [part for part in needed if part != "all" and not getattr(names, part)]
    if missing:
        advice = ', or take targets="all"' if "targets" in type(method.options).model_fields else ""
        raise UsageError(f"Which modules of {kind} are its {missing[0]} is not known.\n  {_SAY_PARTS[:-1]}{advice}.")
