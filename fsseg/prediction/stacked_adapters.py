"""Adapters that segment together: on one base, into one label map."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fsseg.config.errors import UsageError
from fsseg.config.manifest import sha256_of_file
from fsseg.data.assembly import containing_first, paintable, renumbered
from fsseg.data.structures import Structures
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import AdapterInfo
from fsseg.methods.stacked_networks import StackedNetworks
from fsseg.nnunet.model_checkpoints import model_files
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.load_adapted import load_adapted
from fsseg.prediction.model import PredictionModel, common_axes

log = logging.getLogger(__name__)


def adapters_to_predict(folder: Path, adapters: Sequence[Path]) -> PredictionModel:
    """Return adapters on their base, which run together.

    Args:
        folder: model folder of the base.
        adapters: the adapter files.

    Raises:
        UsageError: two adapters have a structure in common, or do not go together.
        FssegError: an adapter is damaged or of another base.
    """
    base = ModelFolder.read(folder)
    infos: list[AdapterInfo] = []
    network = StackedNetworks(_adapted_one_by_one(base, adapters, infos))
    support = [case for info in infos for case in info.support]
    transductive = [case for info in infos for case in info.transductive]
    integers = joined_integers(infos)
    stacked = [name for info in infos for name in info.structures]
    if stacked != list(integers):
        network.channels = [stacked.index(name) for name in integers]
    model = replace(
        base,
        dataset_json=base.dataset_json_with(
            integers,
            infos[0].activation,
            support,
            file_ending=infos[0].file_ending,
            transductive=transductive,
        ),
        mirroring_axes=common_axes([info.mirroring_axes for info in infos]),
        tile_step_size=min(info.tile_step_size for info in infos),
    )
    hashes = (base.sha256, *(sha256_of_file(file) for file in adapters))
    files = model_files(folder)
    return PredictionModel(model, network, (), hashes, tuple(files[:1]), (*files, *adapters), tuple(adapters))


def _adapted_one_by_one(
    base: ModelFolder, adapters: Sequence[Path], infos: list[AdapterInfo]
) -> Iterator[AdaptedNetwork]:
    """Yield the networks, each built when the one before shares its memory; their headers are added to `infos`."""
    for file in adapters:
        adapted, info = load_adapted(base, file)
        infos.append(info)
        _require_stackable(infos)
        yield adapted


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


def joined_integers(infos: Sequence[AdapterInfo]) -> dict[str, tuple[int, ...]]:
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
