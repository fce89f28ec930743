"""Tensors of a base that its import found no weights for: random ones, which an adaptation may leave as they are."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fsseg.checkpoints.transfer import TRANSFER_NAME
from fsseg.config.json_files import read_json
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.nnunet.model_folder import ModelFolder

_SHOWN = 3
_ORIGINAL = ".parametrizations.weight.original"  # torch's name of a weight that a parametrization updates


def random_notes(base: ModelFolder, adapted: AdaptedNetwork) -> list[str]:
    """Say which tensors of a base are random, and whether the adaptation trains them.

    Args:
        base: the base; an imported one lies beside the report of its import.
        adapted: a network made of it, before its first step.
    """
    unfilled = _unfilled(base.path) if adapted.method.uses_pretrained else []
    if not unfilled:
        return []
    frozen = [name for name in _frozen(adapted.network) if name in unfilled]
    if not frozen:
        return [f"Random at the start, because the import of the base found no weights for them: {_some(unfilled)}."]
    return [
        f"RANDOM AND FROZEN: {_some(frozen)}. The import of the base found no weights for them, and nothing here trains"
        " them: features pass through random layers.\n  Use full or l2_sp, which train everything, or train the base"
        " first with `fsseg pretrain --checkpoint`."
    ]


def _unfilled(folder: Path) -> list[str]:
    file = folder / TRANSFER_NAME
    if not file.is_file():
        return []
    report = read_json(file, ["missing", "reshaped"])
    return [*report["missing"], *report["reshaped"]]


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _frozen(network: nn.Module) -> list[str]:
    """Return the parameters that are not trained, by the names they have in a plain network."""
    return [name.replace(_ORIGINAL, ".weight") for name, p in network.named_parameters() if not p.requires_grad]
