"""The families of checkpoints by name. Pure data, so that the command's help imports no torch."""

import importlib
from typing import TYPE_CHECKING

from fsseg.config.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from fsseg.checkpoints.container import Checkpoint
    from fsseg.checkpoints.family import Family

AUTO = "auto"

# Module in fsseg.checkpoints.families, which holds FAMILY -> what its files are.
FAMILIES = {
    "suprem_unet": "SuPreM and CLIP-Driven Universal Model, U-Net",
    "suprem_swin": "SuPreM and CLIP-Driven Universal Model, Swin UNETR",
    "suprem_segresnet": "SuPreM, SegResNet",
    "fseft": "FSEFT, Swin UNETR with 29 structures",
    "multitalent_v1": "MultiTalent v1, U-Net with 47 regions",
    "multitalent_v2": "MultiTalent v2, residual encoder U-Net, one or several stems",
    "nnssl": "nnssl / OpenMind / nnFoundation, residual encoder U-Net",
    "models_genesis": "Models Genesis, Genesis_Chest_CT.pt",
    "nnunet_v1": "nnU-Net v1, plain 3D U-Net, such as Models Genesis' genesis_nnunet_luna16_006.model",
    "swin_ssl": "Swin UNETR self-supervised, model_swinvit.pt",
    "swin_btcv": "Swin UNETR base_5000ep: supervised on BTCV, whatever its name says",
    "swin_dae": "Swin encoder of disruptive autoencoders, ssl_pretrained_weights.pth",
    "nnunet_v2": "any nnU-Net v2 checkpoint",
}


def family_of(checkpoint: "Checkpoint", name: str = AUTO) -> tuple[str, "Family"]:
    """Return the family of a file, found out or as named, with its name.

    Raises:
        UsageError: no family of this name, the file is not of the named family, or it is of none or several.
    """
    if name != AUTO:
        family = load_family(name)
        if not family.recognises(checkpoint):
            raise UsageError(
                f"{checkpoint.path} is no file of the family {name!r}: {family.title}.\n"
                f"  in the file: {checkpoint.description()}\n"
                f"  Leave --family out to have it found out."
            )
        return name, family
    fitting = [known for known in FAMILIES if load_family(known).recognises(checkpoint)]
    if len(fitting) == 1:
        return fitting[0], load_family(fitting[0])
    listing = "\n".join(f"    {known}: {what}" for known, what in FAMILIES.items())
    found = "several families" if fitting else "no family that is known here"
    raise UsageError(
        f"{checkpoint.path} is of {found}{': ' + ', '.join(fitting) if fitting else ''}.\n"
        f"  in the file: {checkpoint.description()}\n"
        f"  known:\n{listing}\n"
        f"  {'Choose one with --family.' if fitting else 'A family is one file in fsseg/checkpoints/families.'}"
    )


def load_family(name: str) -> "Family":
    """Return a family by name; raise `UsageError` with the nearest name if there is none."""
    if name not in FAMILIES:
        raise unknown_name("family of checkpoints", name, [AUTO, *FAMILIES])
    return importlib.import_module(f"fsseg.checkpoints.families.{name}").FAMILY
