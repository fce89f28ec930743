"""Stage: merge an adapter into a model folder of its own, which nnU-Net runs without fsseg."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.adaptation.merging import merged_model
from fsseg.config.base import StrictModel
from fsseg.config.manifest import Manifest
from fsseg.config.results import WrittenResult
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.nnunet.model_folder import ModelFolder


class AdapterMergeConfig(StrictModel):
    """What to merge.

    Attributes:
        adapter: the adapter file.
        base: model folder that the adapter was trained on.
        out: model folder to make.
        scale: how far to go from the base (0) to the adapted network (1).
    """

    adapter: Path
    base: Path
    out: Path
    scale: float = Field(default=1.0, ge=0, le=2)


@dataclass(frozen=True)
class AdapterMergeResult(WrittenResult):
    """What was merged.

    Attributes:
        out: the model folder.
        structures: that it segments, in channel order.
        method: name of the method of the adapter.
        base: hash of the base.
        scale: how far it goes from the base (0) to the adapted network (1).
    """

    out: Path
    structures: tuple[str, ...]
    method: str
    base: str
    scale: float


def run_adapter_merge(config: AdapterMergeConfig) -> AdapterMergeResult:
    """Write the adapted network as a stock nnU-Net model folder; complete or absent.

    Raises:
        UsageError: the method does not merge, or did not start from the base and is to be scaled, or not this far; the
            output exists.
        FssegError: the adapter is damaged, or was made on another base.

    Example:
        >>> adapter = Path("runs/larynx/adapter.safetensors")
        >>> config = AdapterMergeConfig(adapter=adapter, base=Path("runs/universal"), out=Path("runs/larynx_merged"))
        >>> run_adapter_merge(config).structures
        ('larynx',)
    """
    require_new(config.out)
    base = ModelFolder.read(config.base)
    model, info = merged_model(base, config.adapter, config.scale)
    structures = tuple(info.structures)
    manifest = Manifest("adapter merge", config.model_dump(mode="json"))
    manifest.add_inputs([config.adapter])
    manifest.add(structures=list(structures), method=info.method, base=base.sha256, scale=config.scale)
    with new_run_folder(config.out) as staging:
        model.write(staging)
        content = manifest.write(staging)
    return AdapterMergeResult(config.out, structures, info.method, base.sha256, config.scale, manifest=content)
