"""Stage: turn a public checkpoint into a run that `fsseg adapt` starts from."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, PositiveInt
from torch import nn

from fsseg.checkpoints.completeness import require_enough
from fsseg.checkpoints.container import Checkpoint, open_checkpoint
from fsseg.checkpoints.family import Asked, Family, Translation
from fsseg.checkpoints.import_input import with_input
from fsseg.checkpoints.import_report import expectations, facts_of, summary_of
from fsseg.checkpoints.input_channels import channel_map
from fsseg.checkpoints.registry import AUTO, family_of
from fsseg.checkpoints.transfer import TransferReport, transfer
from fsseg.config.base import Seed, StrictModel
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.recipes import Activation
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.models.parts import parts_of
from fsseg.nnunet.mirroring import kept_flips
from fsseg.nnunet.model_folder import RANDOM_KEY, ModelFolder
from fsseg.stages.zero_shot import prepare_zero_shot, run_zero_shot
from fsseg.training.seeding import resolve_device, seeded

TRANSFER_NAME = "transfer.json"
SAID = ("stem", "labels", "activation", "spacing", "hu", "orientation", "patch_merging")  # of `Asked`


class ImportConfig(StrictModel):
    """What to import.

    Attributes:
        file: the checkpoint.
        out: run folder to make: an nnU-Net model folder.
        family: name of its family; "auto" finds it out from names and shapes.
        stem: id of a stem, for files with several.
        labels, activation, spacing, hu, orientation, patch_merging: of a network of the user's own; see `Asked`.
        plans: plans to use instead of those that the family or the file says.
        channels: image channels of the base, in order, each as NAME or NAME=OLD; None keeps the checkpoint's.
        patch_size: in voxels, in the axis order of the plans; None takes that of the plans.
        allow_partial: accept a network that is partly random, tensors of other shapes, and layers left out.
        zero_shot: number or name of a dataset in nnUNet_raw on which to run the imported head.
        cases: its cases; None means all.
        seed: decides what does not come from the file.
        device: auto, cpu, cuda, cuda:N or mps; for the zero-shot check.
    """

    file: Path
    out: Path
    family: str = AUTO
    stem: str | None = None
    labels: tuple[str, ...] | None = Field(default=None, min_length=1)
    activation: Activation | None = None
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    hu: tuple[FiniteFloat, FiniteFloat] | None = None
    orientation: str | None = None
    patch_merging: Literal["legacy", "merging"] | None = None
    plans: Path | None = None
    channels: tuple[str, ...] | None = Field(default=None, min_length=1)
    patch_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    allow_partial: bool = False
    zero_shot: str | None = None
    cases: tuple[str, ...] | None = None
    seed: Seed = 0
    device: str = "auto"

    def asked(self) -> Asked:
        """Return what the user says of the file."""
        return Asked(**{word: getattr(self, word) for word in SAID}, has_plans=self.plans is not None)


def run_import(config: ImportConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Import; the run folder is complete or absent.

    It holds the files of a model folder, transfer.json (what went where) and manifest.json.

    Raises:
        UsageError: unknown family, plans, channels or a patch that do not fit, too little of the network in the file,
            the output exists.
        FssegError: a damaged file, or one that holds objects that would execute code.
    """
    require_new(config.out)
    checkpoint = open_checkpoint(config.file)
    name, family, translation = _translated(checkpoint, config)
    channels = None if config.channels is None else channel_map(config.channels, translation.channel_names)
    translation = with_input(
        translation, config.file, plans_file=config.plans, channels=channels, patch_size=config.patch_size
    )
    model, flips = _model(config, name, family, translation)
    check = prepare_zero_shot(model, config.zero_shot, config.cases) if config.zero_shot else None
    model, network, report, random = _filled(model, translation, config, exact=family.is_exact)
    report = replace(report, channels=None if channels is None else channels.as_dict())
    facts = {
        "family": name,
        **facts_of(family, translation, checkpoint),
        "expects": expectations(model),
        "structures": list(model.structures.names),
        "activation": model.activation,
        "sha256": model.sha256,
        "mirroring_axes": list(model.mirroring_axes or ()),
        "transfer": summary_of(report),
        "notes": [*random, *translation.notes, *flips, *(check.notes if check else ())],
    }
    if dry_run:
        return {**facts, "transfer": report.as_dict(), "out": str(config.out)}
    manifest = Manifest("import", config.model_dump(mode="json"), config.seed)
    manifest.add_inputs([config.file, *translation.inputs, *([config.plans] if config.plans else [])])
    manifest.add(**facts)
    with new_run_folder(config.out) as staging:
        model.write(staging)
        write_json(staging / TRANSFER_NAME, report.as_dict())
        if check is not None:
            summary, notes = run_zero_shot(check, network, staging, resolve_device(config.device))
            manifest.add(zero_shot=summary, notes=[*facts["notes"], *notes])
        return manifest.write(staging)


def _translated(checkpoint: Checkpoint, config: ImportConfig) -> tuple[str, Family, Translation]:
    try:
        name, family = family_of(checkpoint, config.family)
        _require_taken(config, name, family)
        return name, family, family.translate(checkpoint, config.asked())
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # What a stranger's file may lack, or hold in another form, cannot be listed.
        raise FssegError(
            f"{config.file} is damaged, or of no published form: {error!r}\n  in the file: {checkpoint.description()}"
        ) from error


def _require_taken(config: ImportConfig, name: str, family: Family) -> None:
    """Raise `UsageError` for what the user says of a file although its family knows it."""
    said = config.asked()
    extra = [word for word in SAID if word not in family.takes and getattr(said, word) is not None]
    if extra == ["stem"]:
        raise UsageError(f"--stem is for files with several stems, and those of {name!r} have one. Leave it out.")
    if extra:
        options = ", ".join("--" + word.replace("_", "-") for word in extra)
        raise UsageError(
            f"The files of {name!r} say it themselves: leave {options} out.\n"
            "  For a network of your own name its --family; --plans changes spacing, window and orientation."
        )


def _model(config: ImportConfig, name: str, family: Family, translation: Translation) -> tuple[ModelFolder, list[str]]:
    """Return the model without weights, and notes on the flips that its predictions do not have."""
    plans = translation.plans
    assert plans is not None  # with_input saw to it
    dataset_json = {
        "channel_names": {str(index): channel for index, channel in enumerate(translation.channel_names)},
        **translation.labels,
        "numTraining": 0,
        "file_ending": translation.file_ending,
        "overwrite_image_reader_writer": plans["image_reader_writer"],
        "name": name,
        "licence": translation.licence or family.licence,
        "reference": family.reference,
        **translation.carried,
    }
    model = ModelFolder(config.out, plans, dataset_json, translation.configuration, {}, None).checked()
    flips = kept_flips(model.structures.names, translation.mirroring_axes or ())
    return replace(model, mirroring_axes=flips.axes or None), [flips.reason] if flips.reason else []


def _filled(
    model: ModelFolder, translation: Translation, config: ImportConfig, *, exact: bool
) -> tuple[ModelFolder, nn.Module, TransferReport, list[str]]:
    """Return the model and its network with the weights of the file, the report, and notes on what is random."""
    with seeded(config.seed):  # what the file does not hold must not depend on the caller
        network = model.build_untrained_network()
    report = transfer(network, translation.weights, with_head=model.has_head)
    if exact:  # whatever else the file holds, no file of the family has
        report = replace(report, unplaced=tuple(report.dropped))
    report = replace(report, dropped={**translation.dropped, **report.dropped})
    random = require_enough(report, translation.holds, allow_partial=config.allow_partial)
    if model.has_head and not report.head:
        raise FssegError(
            f"{config.file} names {len(model.structures.names)} structures, but holds no head of"
            f" {model.output_channels} rows for them: it is damaged, or its labels belong to another network."
        )
    weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    unfilled = _unfilled(network, report, translation)
    dataset_json = model.dataset_json | ({RANDOM_KEY: unfilled} if unfilled else {})
    return replace(model, weights=weights, dataset_json=dataset_json), network, report, random


def _unfilled(network: nn.Module, report: TransferReport, translation: Translation) -> list[str]:
    """Return the tensors of the network that are random, here or in the file already; heads are made anew anyway."""
    of_heads = {id(parameter) for parameter in parts_of(network).heads.parameters()}
    names = {name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) not in of_heads}
    found = [*report.missing, *report.reshaped, *(name for name in translation.random if name in report.matched)]
    return [name for name in found if name in names]
