"""What an adaptation leaves in its folder: adapter, losses and, where the method merges, a stock nnU-Net model."""

import json
from pathlib import Path

from fsseg.adaptation.estimate import Estimate
from fsseg.adaptation.fitted import FittedNetwork
from fsseg.methods.adapter_file import AdapterInfo, save_adapter


def write_fitted(folder: Path, fitted: FittedNetwork, estimate: Estimate | None = None) -> None:
    """Write adapter.safetensors, and metrics.jsonl with the loss of every step.

    Args:
        folder: where.
        fitted: the trained network.
        estimate: the DSC that leave-one-out expects, if it was asked for.

    Raises:
        FssegError: a trained tensor holds NaN or infinite values.
        OSError: not all of it could be written.
    """
    losses = enumerate(fitted.training.losses, start=1)
    lines = (json.dumps({"step": step, "loss": round(loss, 6)}) for step, loss in losses)
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    save_adapter(folder, fitted.start.network.compact_state(), adapter_info(fitted, estimate))


def adapter_info(fitted: FittedNetwork, estimate: Estimate | None = None) -> AdapterInfo:
    """Return the header of the adapter file."""
    job = fitted.start.job
    means = {name: spread.mean for name, spread in (estimate or {}).items() if spread.mean is not None}
    return AdapterInfo(
        method=job.method_name,
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
        support=fitted.start.cases,
        transductive=tuple(fitted.start.queries),
        ranks=fitted.ranks,
        training=fitted.facts.of_result(),
        estimate=None if estimate is None else means,
    )
