"""Stage: plans with which nnU-Net's own commands adapt a base to a dataset."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.adaptation.job import make_target, require_classes, require_rate
from fsseg.adaptation.notes import batch_statistics_notes, recipe_notes, unused_settings_notes, urgent_notes
from fsseg.checkpoints.base_channels import require_same_channels
from fsseg.config.adaptation import AdaptationRequest
from fsseg.config.errors import UsageError, require_known
from fsseg.config.few_shot import ADAPT_KEY, FewShotSettings
from fsseg.config.json_files import write_json
from fsseg.config.pretraining import PLANS_KEY
from fsseg.data.splits import Split, make_split, read_case_lists
from fsseg.data.structures import STRUCTURES_NAME
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import create_method
from fsseg.models.heads import replace_heads
from fsseg.nnunet.configurations import plans_with
from fsseg.nnunet.environment import dataset_folder, dataset_id_of, preprocessed_folder, raw_folder
from fsseg.nnunet.mirroring import flips_of_adaptation
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessed_dataset import require_same_integers
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset


class NnunetPlansConfig(AdaptationRequest):
    """What the plans say: as of `fsseg adapt`, but that named cases are a pool, of which all are shots.

    Attributes:
        structures: structures to adapt to; none takes all that the dataset annotates.
        name: name of the plans; None makes one of method and shots.
    """

    structures: tuple[str, ...] = ()
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]+$")


def run_nnunet_plans(config: NnunetPlansConfig) -> dict[str, Any]:
    """Write the plans into the dataset's folder in nnUNet_preprocessed.

    Patch, spacing, normalisation and network are the base's; the preprocessed cases are shared by all plans of one
    base.

    Raises:
        UsageError: unknown dataset, structure, method or option; a recipe without a rate for the method; a method that
            is not defined on the base's network; plans of this name exist.
    """
    method = create_method(config.method, config.method_options)
    require_rate(config.recipe, method)
    base = ModelFolder.read(config.checkpoint)
    raw = read_raw_dataset(dataset_folder(raw_folder(), config.dataset))
    require_same_channels(base, raw)
    names = config.structures or raw.structures.names
    require_known("structure", names, raw.structures.names, f"{raw.path.name} annotates the allowed ones.")
    flips = flips_of_adaptation(config.recipe, names, base if method.uses_pretrained else None, raw.structures.names)
    notes = [*_notes(base, config, len(names)), flips.reason]
    if config.recipe.activation == "softmax":
        require_classes(make_target(base, raw.dataset_json, raw.structures, names, head=config.head), ())
    split = _split(config, raw)
    shots = len(split.pool) if config.cases else config.shots
    name = config.name or f"fsseg_{config.method.replace(':', '_')}_{shots}shots"
    folder = preprocessed_folder() / raw.path.name
    out = folder / f"{name}.json"
    if os.path.lexists(out):
        raise UsageError(
            f"Plans exist already: {out}\n  Trainings refer to them. Choose another --name, or delete the file."
        )
    _write_dataset(raw, folder)
    write_json(out, _plans(base, raw.path.name, name, _settings(config, base, names, split, shots)))
    return {
        "out": str(out),
        "plans": name,
        "configuration": base.configuration,
        "dataset": raw.path.name,
        "dataset_id": dataset_id_of(raw.path),
        "structures": list(names),
        "method": config.method,
        "decoder": config.decoder,
        "pool": list(split.pool),
        "test": list(split.test),
        "labelled": not raw.unlabelled,
        "notes": [*raw.unlabelled_notes(), *notes],
    }


def _settings(
    config: NnunetPlansConfig, base: ModelFolder, names: Sequence[str], split: Split, shots: int
) -> FewShotSettings:
    """Return what the trainer reads out of the plans."""
    said_otherwise = {"dataset", "structures", "name", "checkpoint", "cases", "shots", "pool", "test"}
    return FewShotSettings(
        **config.model_dump(exclude=said_otherwise),
        shots=shots,
        pool=split.pool if config.pool or config.cases else None,
        test=split.test,
        checkpoint=config.checkpoint.resolve(),
        base_sha256=base.sha256,
        structures=tuple(names),
    )


def _write_dataset(raw: RawDataset, folder: Path) -> None:
    """Write what the dataset is into its preprocessed folder; what lies there of other plans must mean the same."""
    if folder.is_dir():
        require_same_integers(folder, raw.structures)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "dataset.json", raw.dataset_json)
    if (raw.path / STRUCTURES_NAME).is_file():
        shutil.copyfile(raw.path / STRUCTURES_NAME, folder / STRUCTURES_NAME)


def _split(config: NnunetPlansConfig, raw: RawDataset) -> Split:
    """Check the lists of cases; of which of the pool a fold trains on, the trainer draws."""
    lists = read_case_lists(config.pool, config.test)
    if config.cases is not None:
        lists["pool"] = config.cases
    return make_split(raw.cases, shots=1, seed=config.seed, duplicates=raw.structures.duplicates, **lists)


def _plans(base: ModelFolder, dataset: str, name: str, settings: FewShotSettings) -> dict[str, Any]:
    data = f"{base.plans['plans_name']}_{base.sha256[:8]}_{base.configuration}"
    plans = plans_with(base.plans, base.configuration, data_identifier=data)
    plans |= {"dataset_name": dataset, "plans_name": name}
    plans[PLANS_KEY] = {ADAPT_KEY: settings.model_dump(mode="json")}
    return plans


def _notes(base: ModelFolder, config: NnunetPlansConfig, structures: int) -> list[str]:
    """Apply the method once, so that what it refuses, and what a user should know, is said before a training."""
    network = base.build_network()
    replace_heads(network, [0.5] * structures)
    adapted = AdaptedNetwork(network, create_method(config.method, config.method_options), config.decoder)
    of_settings = [*unused_settings_notes(adapted, config.recipe), *batch_statistics_notes(adapted)]
    return [*urgent_notes(base, adapted), *adapted.notes, *of_settings, *recipe_notes(base, config.recipe)]
