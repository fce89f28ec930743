"""What an adaptation leaves in its folder besides weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsseg.adaptation.job import Job
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import AdapterInfo
from fsseg.training.fit import FitResult

_OF_THIS_MACHINE = ("fit_seconds", "resumed_at")  # and not of the result, so that equal trainings give equal files


def adapter_info(
    method: str,
    job: Job,
    adapted: AdaptedNetwork,
    support: Sequence[str],
    result: FitResult,
    estimate: dict[str, Any] | None = None,
) -> AdapterInfo:
    """Return the header of the adapter file.

    Args:
        method: name of the method, with its preset.
        job: what was adapted.
        adapted: the trained network.
        support: support cases.
        result: of the training.
        estimate: spread of the DSC per structure that leave-one-out expects, if it was asked for.
    """
    return AdapterInfo(
        method=method,
        options=job.method.options.model_dump(mode="json"),
        decoder=job.decoder,
        structures=job.target.base_rows,
        integers=job.integers(),
        label_maps=job.target.label_maps if job.keeps_integers else None,
        activation=job.recipe.activation,
        file_ending=job.target.file_ending,
        mirroring_axes=job.flips.axes,
        tile_step_size=job.recipe.tile_step_size,
        base_sha256=job.base.sha256,
        base_settings=job.base.settings,
        base_licence=job.base.licence,
        support=tuple(support),
        ranks=job.method.ranks(adapted.network),
        training={name: fact for name, fact in training_facts(result).items() if name not in _OF_THIS_MACHINE},
        estimate=None if estimate is None else _means(estimate),
    )


def _means(estimate: dict[str, Any]) -> dict[str, float]:
    return {name: spread["mean"] for name, spread in estimate.items() if spread["mean"] is not None}


def training_facts(result: FitResult) -> dict[str, Any]:
    """Return steps, seconds, where it went on after a stop, how it ended, and its loss at the end."""
    last = result.losses[-50:]
    return {
        "steps": len(result.losses),
        "plateau": result.plateau,
        "fit_seconds": round(result.seconds, 2),
        "resumed_at": list(result.resumed_at),
        "loss": round(sum(last) / len(last), 5) if last else None,
    }


def write_losses(folder: Path, result: FitResult) -> None:
    """Write metrics.jsonl: a line with the loss of every step."""
    lines = (json.dumps({"step": step + 1, "loss": round(loss, 6)}) for step, loss in enumerate(result.losses))
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
