"""How often a case is drawn for a pretraining, and whether the cases show all that it trains."""

from collections.abc import Sequence
from pathlib import Path

from fsseg.config.errors import FssegError
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume

_CASE_WEIGHT_EXPONENTS = {"cases": 0.0, "sqrt": -0.5, "sources": -1.0}


def source_weights(cases: Sequence[str], structures: Structures, sampling: str) -> list[float]:
    """Return a weight per case, by the n cases of its source; sources that are parts of one collection count as one.

    With "sqrt" it is 1/sqrt(n), so that a source is drawn in proportion to sqrt(n): MultiTalent's balance between large
    and small collections (Ulrich et al., MICCAI 2023). With "cases" all cases weigh the same, with "sources" all
    sources.
    """
    annotations = [structures.annotation(case) for case in cases]
    sources = [annotation.collection or annotation.source for annotation in annotations]
    return [sources.count(source) ** _CASE_WEIGHT_EXPONENTS[sampling] for source in sources]


def require_every_structure(volumes: Sequence[Volume], names: Sequence[str], folder: Path) -> None:
    """Raise `FssegError` if no training case shows a structure: its channel could not learn."""
    shown = {name for volume in volumes for name in volume.locations}
    missing = [name for name in names if name not in shown]
    if missing:
        raise FssegError(
            f"No training case in {folder} shows {', '.join(missing)}.\n"
            "  If held-out cases show it, hold fewer out (validation_share, --fold all). Otherwise add cases, or leave"
            " the structure out of the specs."
        )
