"""What segments: a network with the plans and labels that it was trained with; read from the folds of a run."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from fsseg import __version__
from fsseg.config.errors import UsageError
from fsseg.nnunet.model_checkpoints import fold_checkpoints, model_files, remarks_on
from fsseg.nnunet.model_folder import ModelFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionModel:
    """What segments.

    Attributes:
        model: its plans, labels, axes to mirror and step of the sliding window hold.
        network: runs them.
        folds: weights of which the logits are averaged, in turn in the network; none for those that it has.
        weights_sha256: what says which weights these are.
        checkpoints: the files that hold them.
        files: these and all others that the model was read from.
        adapters: those of them that are adapters.
    """

    model: ModelFolder
    network: nn.Module
    folds: tuple[Mapping[str, Tensor], ...]
    weights_sha256: tuple[str, ...]
    checkpoints: tuple[Path, ...]
    files: tuple[Path, ...]
    adapters: tuple[Path, ...] = ()

    def adjusted(self, tile_step_size: float | None, *, mirroring: bool) -> "PredictionModel":
        """Return it with another step of the sliding window (None keeps it), or without flips."""
        model = replace(
            self.model,
            mirroring_axes=self.model.mirroring_axes if mirroring else None,
            tile_step_size=tile_step_size or self.model.tile_step_size,
        )
        return replace(self, model=model)

    def fingerprint(self, **settings: object) -> str:
        """Return a hash of all that decides a label map, besides the image: weights, plans, labels and `settings`."""
        decides = [
            __version__,
            self.weights_sha256,
            self.model.plans,
            self.model.dataset_json,
            self.model.configuration,
            self.model.mirroring_axes,
            self.model.tile_step_size,
            settings,
        ]
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def run_to_predict(run: Path, folds: Sequence[str] = (), checkpoint_name: str | None = None) -> PredictionModel:
    """Return the model of a run folder.

    Args:
        run: the model folder.
        folds: as `fold_checkpoints` takes them.
        checkpoint_name: of the files of the folds.

    Raises:
        UsageError: the folder is no model folder, has no such fold or no head.
        FssegError: a file is damaged, or the weights do not fit the plans.
    """
    files = fold_checkpoints(run, folds, checkpoint_name)
    for remark in remarks_on(run, files):
        log.warning("%s", remark)
    models = [ModelFolder.read(run, file) for file in files]
    if not models[0].has_head:
        raise UsageError(
            f"{run} has no head: its checkpoint was imported without structures, so it segments nothing"
            " yet.\n  Adapt it first: fsseg adapt --checkpoint RUN …"
        )
    _require_one_configuration(models, files)
    network = models[0].build_network()
    for other in models[1:]:
        other.load_weights(network)
    return PredictionModel(
        model=replace(models[0], mirroring_axes=common_axes([model.mirroring_axes or () for model in models])),
        network=network,
        folds=tuple(model.weights for model in models) if len(models) > 1 else (),
        weights_sha256=tuple(model.sha256 for model in models),
        checkpoints=tuple(files),
        files=(*files, *model_files(run)[1:]),
    )


def common_axes(axes: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    """Return the axes that every adapter or fold allows to mirror: all see one image. None stands for no axis."""
    return tuple(sorted(set.intersection(*(set(some) for some in axes)))) or None


def _require_one_configuration(models: Sequence[ModelFolder], files: Sequence[Path]) -> None:
    for model, file in zip(models, files, strict=True):
        if model.configuration != models[0].configuration:
            raise UsageError(
                f"{file} is of the configuration {model.configuration!r}, {files[0]} of {models[0].configuration!r}.\n"
                "  Folds of one configuration are averaged: choose some by --folds."
            )
