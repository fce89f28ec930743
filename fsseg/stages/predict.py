"""Stage: segment images with a run of `fsseg adapt` or `fsseg pretrain`, or with adapters on their base."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn
from tqdm import tqdm

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.recipes import LEAST_TILE_STEP
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.data.assembly import containing_first, paintable, renumbered
from fsseg.data.structures import Structures
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import AdapterInfo
from fsseg.methods.stacked_networks import StackedNetworks
from fsseg.nnunet.model_folder import ModelFolder, model_files, read_model_folder
from fsseg.nnunet.prediction import Predictor
from fsseg.nnunet.raw_dataset import ignored_images, images_by_case
from fsseg.stages.load_adapted import load_adapted
from fsseg.stages.stored_orientation import mixed_orientations, stored_orientations
from fsseg.training.seeding import resolve_device

log = logging.getLogger(__name__)


class PredictConfig(StrictModel):
    """What to predict.

    Attributes:
        run: model folder; or else
        base, adapters: model folder and the adapter files to run on it together.
        input: folder of images named CASE_0000.nii.gz.
        output: folder to make: one label map a case, and dataset.json with the meaning of the integers.
        cases: only these cases of the input folder; None means all.
        tile_step_size: step of the sliding window as a share of the patch; smaller is slower and smoother. None takes
            that of the run, or the smallest of the adapters.
        mirroring: average over flips of the axes that the run, or every adapter, allows.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    run: Path | None = None
    base: Path | None = None
    adapters: tuple[Path, ...] = ()
    input: Path
    output: Path
    cases: tuple[str, ...] | None = None
    tile_step_size: float | None = Field(default=None, ge=LEAST_TILE_STEP, le=1)
    mirroring: bool = True
    device: str = "auto"


def run_predict(config: PredictConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Predict; the output folder is complete or absent.

    Raises:
        UsageError: the run is no model folder, two adapters have a structure in common, the input holds no images,
            the output exists.
        FssegError: an image cannot be read, an adapter is damaged or of another base.
    """
    require_new(config.output, resume=True)
    model, network = _model(config)
    ending = model.dataset_json["file_ending"]
    model = replace(
        model,
        mirroring_axes=model.mirroring_axes if config.mirroring else None,
        tile_step_size=config.tile_step_size or model.tile_step_size,
    )
    images = images_by_case(config.input, model.dataset_json)
    if config.cases is not None:
        require_known("case", config.cases, images, f"{config.input} holds the allowed ones.")
        images = {case: images[case] for case in config.cases}
    orientations = stored_orientations(model, {case: files[0] for case, files in images.items()})
    if len(orientations) > 1:
        log.warning("%s Some will be segmented as mirror images or turned.", mixed_orientations(orientations))
    ignored = [file.name for file in ignored_images(config.input, model.dataset_json)]
    if ignored:
        log.warning("Not segmented, because not named CASE_0000%s: %s", ending, ", ".join(ignored))
    facts = {
        "run": str(config.run or config.base),
        "adapters": [str(file) for file in config.adapters],
        "cases": len(images),
        "ignored": ignored,
        "structures": list(model.structures.names),
        "mirroring_axes": list(model.mirroring_axes or ()),
        "tile_step_size": model.tile_step_size,
    }
    if dry_run:
        return {**facts, "out": str(config.output)}
    manifest = Manifest("predict", config.model_dump(mode="json"))
    manifest.add_inputs([*model_files(model.path), *config.adapters])
    manifest.add_inputs([file for files in images.values() for file in files])
    device = resolve_device(config.device)
    predictor = Predictor(network or model.build_network(), model, device)
    with new_run_folder(config.output) as staging:
        for case, files in tqdm(images.items(), desc="predict", unit="case", disable=None):
            predictor.predict_file(files, staging / f"{case}{ending}")
        write_json(staging / "dataset.json", model.dataset_json)
        write_json(staging / "plans.json", model.plans)
        manifest.add(**facts)
        return manifest.write(staging)


def _model(config: PredictConfig) -> tuple[ModelFolder, nn.Module | None]:
    """Return the model to run, and its network where that is not the one of the model folder."""
    if (config.run is None) == (config.base is None) or bool(config.adapters) != (config.base is not None):
        raise UsageError("Give either --run, or --base and --adapter.")
    if config.run is not None:
        model = read_model_folder(config.run)
        if not model.has_head:
            raise UsageError(
                f"{config.run} has no head: its checkpoint was imported without structures, so it segments nothing"
                " yet.\n  Adapt it first: fsseg adapt --checkpoint RUN …"
            )
        return model, None
    assert config.base is not None
    base = read_model_folder(config.base)
    infos: list[AdapterInfo] = []
    network = StackedNetworks(_adapted_one_by_one(base, config.adapters, infos))
    support = [case for info in infos for case in info.support]
    integers = _joined_integers(infos)
    stacked = [name for info in infos for name in info.structures]
    if stacked != list(integers):
        network.channels = [stacked.index(name) for name in integers]
    model = replace(
        base,
        dataset_json=base.dataset_json_with(integers, infos[0].activation, support, file_ending=infos[0].file_ending),
        mirroring_axes=_common_axes(infos) or None,
        tile_step_size=min(info.tile_step_size for info in infos),
    )
    return model, network


def _adapted_one_by_one(
    base: ModelFolder, adapters: Sequence[Path], infos: list[AdapterInfo]
) -> Iterator[AdaptedNetwork]:
    """Yield the networks, each built when the one before shares its memory; their headers are added to `infos`."""
    for file in adapters:
        adapted, info = load_adapted(base, file)
        infos.append(info)
        _require_stackable(infos)
        yield adapted


def _common_axes(infos: Sequence[AdapterInfo]) -> tuple[int, ...]:
    """Return the axes that every adapter allows to mirror: the stack sees one image."""
    return tuple(sorted(set.intersection(*(set(info.mirroring_axes) for info in infos))))


def _require_stackable(infos: Sequence[AdapterInfo]) -> None:
    if len(infos) > 1 and any(info.activation == "softmax" for info in infos):
        raise UsageError(
            "An adapter with a softmax gives every voxel one of its own classes and shares no label map with others.\n"
            "  Predict with these adapters one by one."
        )
    endings = sorted({info.file_ending for info in infos})
    if len(endings) > 1:
        raise UsageError(
            f"The adapters were made for images that end in {' and '.join(endings)}.\n"
            "  Predict with these adapters one by one."
        )
    names = [name for info in infos for name in info.structures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"More than one adapter segments {', '.join(twice)}.\n"
            "  A label map holds each structure once: predict with these adapters one by one."
        )


def _joined_integers(infos: Sequence[AdapterInfo]) -> dict[str, tuple[int, ...]]:
    """Return the integers of the structures of all adapters, in the order in which they are painted.

    Adapters of datasets whose integers mean the same keep them, and what contains comes before what it contains. Of
    other datasets nobody says which structures overlap, so a later adapter is painted over an earlier one; those that
    share no integer keep theirs, others are numbered from 1 together.
    """
    kept = {name: integers for info in infos for name, integers in info.integers.items()}
    first = infos[0].label_maps
    if first is not None and all(info.label_maps == first for info in infos):
        return paintable(containing_first(kept), first.highest)
    if len(infos) > 1:
        log.warning(
            "The adapters are not known to be of one dataset, so a label map cannot tell structures that overlap: where"
            " two claim a voxel, the adapter that is named later has it."
        )
    used = [set().union(*info.integers.values()) for info in infos]
    if sum(map(len, used)) == len(set().union(*used)):
        return kept
    joined: dict[str, tuple[int, ...]] = {}
    for info in infos:
        above = max((integer for integers in joined.values() for integer in integers), default=0)
        own = renumbered(Structures(integers=info.integers), tuple(info.integers))
        joined |= {name: tuple(above + i for i in integers) for name, integers in own.items()}
    return joined
