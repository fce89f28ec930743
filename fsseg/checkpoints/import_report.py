"""What `fsseg import` says about a checkpoint: where it comes from, what it expects, what went where."""

from dataclasses import dataclass

from fsseg.checkpoints.imported_model import ImportedModel
from fsseg.checkpoints.transfer import TransferReport
from fsseg.checkpoints.translated_file import TranslatedFile
from fsseg.config.recipes import Activation
from fsseg.config.results import JsonObject, Result
from fsseg.data.channels import channel_names
from fsseg.data.intensity_scale import BOUNDS
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import CT_SCHEME, STATISTICS


@dataclass(frozen=True)
class ChannelIntensities:
    """How the intensities of an image channel are scaled.

    Attributes:
        scheme: nnU-Net's name of the normalisation.
        window_hu: lower and upper end; None where there is no window.
    """

    scheme: str
    window_hu: tuple[float, ...] | None


@dataclass(frozen=True)
class Expectations:
    """How a model expects its images.

    Attributes:
        channels: names of the image channels.
        axes: which axis of the image is which of the network's, such as "zyx".
        spacing_mm, patch: voxel size, and voxels of a crop, in that order.
        orientation: RAS, or as stored.
        intensities: of each channel.
    """

    channels: tuple[str, ...]
    axes: str
    spacing_mm: tuple[float, ...]
    patch: tuple[int, ...]
    orientation: str
    intensities: tuple[ChannelIntensities, ...]


@dataclass(frozen=True)
class Container:
    """How a file holds its weights: under which key, and which prefixes their names have."""

    wrapper: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class ImportPlan(Result):
    """What a checkpoint becomes.

    Attributes:
        family, title: name of its family, and the project.
        reference, licence: the paper, and of the weights.
        supervised_on: collections whose labels the weights have seen; None where it is not known.
        container: how the file holds its weights.
        expects: how the model expects its images.
        structures: of the head, in channel order; none for an encoder alone.
        activation: of the head.
        sha256: hash of weights and plans, by which adapters know their base.
        mirroring_axes: axes that a prediction may flip.
        transfer: what went where.
        notes: what a user should know.
    """

    family: str
    title: str
    reference: str
    licence: str
    supervised_on: tuple[str, ...] | None
    container: Container
    expects: Expectations
    structures: tuple[str, ...]
    activation: Activation
    sha256: str
    mirroring_axes: tuple[int, ...]
    transfer: TransferReport
    notes: tuple[str, ...]

    def as_json(self) -> JsonObject:
        """Return the plan with the names of all tensors."""
        return {**super().as_json(), "transfer": self.transfer.as_dict()}

    def facts(self) -> JsonObject:
        """Return what a manifest keeps: counts instead of names, which are in transfer.json."""
        return {**super().as_json(), "transfer": self.transfer.counts()}


def import_plan(file: TranslatedFile, imported: ImportedModel, notes: tuple[str, ...]) -> ImportPlan:
    """Return what a file becomes.

    Args:
        file: the translated file.
        imported: the model with its weights.
        notes: what else a user should know.
    """
    family, model = file.family, imported.model
    return ImportPlan(
        family=file.family_name,
        title=family.title,
        reference=family.reference,
        licence=file.licence,
        supervised_on=family.supervised_on,
        container=Container(file.checkpoint.wrapper, file.checkpoint.prefixes),
        expects=expectations(model),
        structures=model.structures.names,
        activation=model.activation,
        sha256=model.sha256,
        mirroring_axes=model.mirroring_axes or (),
        transfer=imported.report,
        notes=(*imported.notes, *file.translation.notes, *notes),
    )


def expectations(model: ModelFolder) -> Expectations:
    """Return how a model expects its images: spacing, axes, patch and intensities."""
    configuration = model.configuration_manager()
    schemes = configuration.normalization_schemes
    return Expectations(
        channels=channel_names(model.dataset_json),
        axes="".join("zyx"[axis] for axis in model.plans["transpose_forward"]),
        spacing_mm=tuple(configuration.spacing),
        patch=tuple(configuration.patch_size),
        orientation="RAS" if model.plans["image_reader_writer"].endswith("WithReorient") else "as stored",
        intensities=tuple(_intensities(model, channel, scheme) for channel, scheme in enumerate(schemes)),
    )


def _intensities(model: ModelFolder, channel: int, scheme: str) -> ChannelIntensities:
    statistics = (model.plans.get(STATISTICS) or {}).get(str(channel)) or {}
    window = tuple(statistics[key] for key in BOUNDS if key in statistics)
    return ChannelIntensities(scheme, window if scheme == CT_SCHEME else None)
