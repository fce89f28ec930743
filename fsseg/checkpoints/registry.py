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
    "monai_segresnet": "a SegResNet of your own, built by MONAI, by name only",
    "monai_swinunetr": "a Swin UNETR of your own, built by MONAI, by name only",
    "monai_unet": "a BasicUNet of your own, built by MONAI, by name only",
}
OWN_NETWORKS = ("monai_segresnet", "monai_swinunetr", "monai_unet")  # nothing tells whose such a network is


def family_of(checkpoint: "Checkpoint", name: str = AUTO) -> tuple[str, "Family"]:
    """Return the family of a file, found out or as named, with its name.

    A file is of a family by its names and by the sizes of the published files.

    Raises:
        UsageError: no family of this name, the file is not of the named family, it is of none or several, or it only
            resembles one: its differences are named.
    """
    from fsseg.checkpoints.published import differences  # imports torch

    known = [name] if name != AUTO else [known for known in FAMILIES if known not in OWN_NETWORKS]
    resembling = [each for each in known if load_family(each).recognises(checkpoint)]
    unlike = {each: differences(checkpoint, load_family(each).traits) for each in resembling}
    fitting = [each for each in resembling if not unlike[each]]
    if len(fitting) == 1:
        return fitting[0], load_family(fitting[0])
    if len(fitting) > 1:
        raise _refused(checkpoint, f"of several families: {', '.join(fitting)}", "Choose one with --family.")
    if resembling:
        raise _only_resembles(checkpoint, unlike)
    if name != AUTO:
        what = f"no file of the family {name!r}: {load_family(name).title}"
        raise _refused(checkpoint, what, "Leave --family out to have it found out.")
    own = [each for each in OWN_NETWORKS if load_family(each).recognises(checkpoint)]
    listing = "\n".join(f"    {known}: {what}" for known, what in FAMILIES.items())
    advice = _own_advice(own[0]) if own else "A family is one file in fsseg/checkpoints/families."
    raise _refused(checkpoint, "of no family that is known here", f"known:\n{listing}\n  {advice}")


def _refused(checkpoint: "Checkpoint", what: str, advice: str) -> UsageError:
    return UsageError(f"{checkpoint.path} is {what}.\n  in the file: {checkpoint.description()}\n  {advice}")


def _only_resembles(checkpoint: "Checkpoint", unlike: dict[str, list[str]]) -> UsageError:
    lines = [f"  - {load_family(name).title}: {'; '.join(found)}" for name, found in unlike.items()]
    alike = next((own for name in unlike if (own := load_family(name).alike)), "")
    advice = f"\n  {_own_advice(alike)}" if alike else ""
    return UsageError(
        f"{checkpoint.path} has names of published networks, but is none of their files:\n" + "\n".join(lines) + advice
    )


def _own_advice(family: str) -> str:
    return f"A network of your own is imported with its own head by --family {family}, which says what it needs."


def load_family(name: str) -> "Family":
    """Return a family by name; raise `UsageError` with the nearest name if there is none."""
    if name not in FAMILIES:
        raise unknown_name("family of checkpoints", name, [AUTO, *FAMILIES])
    return importlib.import_module(f"fsseg.checkpoints.families.{name}").FAMILY
