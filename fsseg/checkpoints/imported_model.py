"""The model that a translated file becomes: its plans and labels, and its network with the file's weights."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from fsseg.checkpoints.completeness import require_enough
from fsseg.checkpoints.family import Translation
from fsseg.checkpoints.transfer import TransferReport, transfer
from fsseg.checkpoints.translated_file import TranslatedFile
from fsseg.config.errors import FssegError
from fsseg.models.parts import parts_of
from fsseg.nnunet.mirroring import kept_flips
from fsseg.nnunet.model_folder import RANDOM_KEY, ModelFolder
from fsseg.training.seeding import seeded


@dataclass(frozen=True)
class ImportedModel:
    """A model with the weights of a file.

    Attributes:
        model: what the run folder will hold.
        network: with the weights.
        report: what went where.
        notes: on what is random or left out.
    """

    model: ModelFolder
    network: nn.Module
    report: TransferReport
    notes: tuple[str, ...]


def model_without_weights(file: TranslatedFile, out: Path) -> tuple[ModelFolder, tuple[str, ...]]:
    """Return the model that a file becomes, without weights, and notes on the flips that its predictions do not have.

    Args:
        file: the translated file.
        out: where the model will be.

    Raises:
        UsageError: the plans have no such configuration.
        FssegError: plans or labels of the file cannot be read.
    """
    translation = file.translation
    plans = translation.plans
    assert plans is not None  # with_input saw to it
    dataset_json = {
        "channel_names": {str(index): channel for index, channel in enumerate(translation.channel_names)},
        **translation.labels,
        "numTraining": 0,
        "file_ending": translation.file_ending,
        "overwrite_image_reader_writer": plans["image_reader_writer"],
        "name": file.family_name,
        "licence": file.licence,
        "reference": file.family.reference,
        **translation.carried,
    }
    model = ModelFolder(out, plans, dataset_json, translation.configuration, {}, None).checked()
    flips = kept_flips(model.structures.names, translation.mirroring_axes or ())
    return replace(model, mirroring_axes=flips.axes or None), (flips.reason,) if flips.reason else ()


def filled(model: ModelFolder, file: TranslatedFile) -> ImportedModel:
    """Build the network and put the weights of the file into it.

    Args:
        model: without weights.
        file: the translated file.

    Raises:
        UsageError: too little of the network is in the file.
        FssegError: the file holds other numbers than it says, or no head for its structures.
    """
    translation, request = file.translation, file.request
    with seeded(request.seed):  # what the file does not hold must not depend on the caller
        network = model.build_untrained_network()
    report = transfer(network, translation.weights, with_head=model.has_head)
    if file.family.is_exact:  # whatever else the file holds, no file of the family has
        report = replace(report, unplaced=tuple(report.dropped))
    report = replace(report, dropped={**translation.dropped, **report.dropped})
    notes = require_enough(report, translation.holds, allow_partial=request.allow_partial)
    if model.has_head and not report.head:
        raise FssegError(
            f"{request.file} names {len(model.structures.names)} structures, but holds no head of"
            f" {model.output_channels} rows for them: it is damaged, or its labels belong to another network."
        )
    weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    random = _random_tensors(network, report, translation)
    dataset_json = model.dataset_json | ({RANDOM_KEY: random} if random else {})
    report = replace(report, channels=file.channels)
    return ImportedModel(replace(model, weights=weights, dataset_json=dataset_json), network, report, tuple(notes))


def _random_tensors(network: nn.Module, report: TransferReport, translation: Translation) -> list[str]:
    """Return the tensors of the network that are random, here or in the file already; heads are made anew anyway."""
    of_heads = {id(parameter) for parameter in parts_of(network).heads.parameters()}
    names = {name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) not in of_heads}
    found = [*report.missing, *report.reshaped, *(name for name in translation.random if name in report.matched)]
    return [name for name in found if name in names]
