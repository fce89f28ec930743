"""Which networks are supported, and where encoder, decoder and segmentation heads lie in each."""

from torch import nn

from fsseg.config.errors import UsageError
from fsseg.models.network_parts import NetworkParts, Parts
from fsseg.models.registration import class_name, registered_networks

_NNUNET = NetworkParts(("encoder",), ("decoder.transpconvs", "decoder.stages"), "decoder.seg_layers")
# By name and not by class, because importing MONAI takes seconds that a plain U-Net should not cost.
SUPPORTED = {
    "dynamic_network_architectures.architectures.unet.PlainConvUNet": _NNUNET,
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet": _NNUNET,
    "fsseg.models.basic_unet.BasicUNet": NetworkParts(
        ("conv_0", "down_1", "down_2", "down_3", "down_4"), ("upcat_4", "upcat_3", "upcat_2", "upcat_1"), "heads"
    ),
    "fsseg.models.genesis_unet.GenesisUNet": NetworkParts(
        ("down_tr64", "down_tr128", "down_tr256", "down_tr512"), ("up_tr256", "up_tr128", "up_tr64"), "heads"
    ),
    "fsseg.models.seg_resnet.SegResNet": NetworkParts(
        ("convInit", "down_layers"), ("up_samples", "up_layers", "conv_final"), "heads"
    ),
    # encoder1 to 4 and encoder10 are convolutions on the skip connections and below the last stage: in neither part,
    # as in FSEFT, whose "decoder" is decoder5 to decoder1.
    "fsseg.models.swin_unetr.SwinUNETR": NetworkParts(
        ("swinViT",), ("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"), "heads"
    ),
}
_NAMED = "_fsseg_parts"  # of one network: the attribute with the names of its parts


def parts_of(network: nn.Module) -> Parts:
    """Return the parts of a network; raise `UsageError` for a network class that is not known."""
    return part_names_of(network).of(network)


def part_names_of(network: nn.Module) -> NetworkParts:
    """Return the names of the parts of a network; raise `UsageError` for a network class that is not known."""
    names = known_part_names(network)
    if names is not None:
        return names
    allowed = ", ".join(sorted(name.rpartition(".")[2] for name in (*SUPPORTED, *registered_networks())))
    raise UsageError(
        f"Networks of class {type(network).__name__} cannot be adapted.\n  allowed: {allowed}\n"
        "  Another class is known after fsseg.register_network."
    )


def known_part_names(network: nn.Module) -> NetworkParts | None:
    """Return the names of the parts of a network: its own, or those of its class; None if neither is known."""
    if _NAMED in network.__dict__:
        return network.__dict__[_NAMED]
    for kind in type(network).__mro__:
        name = class_name(kind)
        if name in SUPPORTED:
            return SUPPORTED[name]
        if name in registered_networks():
            return registered_networks()[name].parts
    return None


def name_parts(network: nn.Module, names: NetworkParts) -> None:
    """Say where the parts of one network lie; its copies keep it.

    Raises:
        UsageError: the network has no such submodule.
    """
    names.of(network)
    network.__dict__[_NAMED] = names


def forget_parts(network: nn.Module) -> None:
    """Undo `name_parts`."""
    network.__dict__.pop(_NAMED, None)
