"""A pretraining that was checked: what is trained on what, before anything is written."""

from dataclasses import dataclass
from pathlib import Path

from fsseg.config.errors import UsageError, unknown_name
from fsseg.config.pretraining import FOLDS, PLANS_KEY
from fsseg.config.pretraining_request import PretrainRequest
from fsseg.config.shipped_files import PLANS
from fsseg.data.contents import DatasetContent
from fsseg.data.dataset_json import read_dataset_json
from fsseg.data.folder_listing import listed
from fsseg.data.splits_file import require_splits
from fsseg.data.structures import STRUCTURES_NAME, Structures
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.environment import SPLITS_NAME, dataset_folder, preprocessed_folder, structures_folder
from fsseg.nnunet.mirroring import flips_of_pretraining
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.preprocessed_dataset import require_all_cases
from fsseg.nnunet.preprocessed_structures import preprocessed_structures
from fsseg.nnunet.pretraining.objective import require_loss_fits
from fsseg.pretraining.recipe_notes import random_start_notes
from fsseg.pretraining.resume import training_block
from fsseg.pretraining.start import inherited, require_fits, seen_cases, start_notes


@dataclass(frozen=True)
class PretrainJob:
    """One training, checked.

    Attributes:
        request: as the user gave it.
        preprocessed: folder of its dataset.
        structures: what the dataset's cases annotate.
        plans: with the settings.
        dataset_json: of the run to make.
        base: path, hash and licence of the model that it starts from; None for random weights.
        mirroring_axes: axes that are flipped in training and prediction.
        start_notes: on what it starts from.
        seen: cases that the base was trained on.
    """

    request: PretrainRequest
    preprocessed: Path
    structures: Structures
    plans: PlansContent
    dataset_json: DatasetContent
    base: dict[str, str] | None
    mirroring_axes: tuple[int, ...]
    start_notes: tuple[str, ...]
    seen: frozenset[str]

    @property
    def patch_size(self) -> list[int]:
        """Voxels of a crop, in z, y, x."""
        return self.plans["configurations"][CONFIGURATION]["patch_size"]

    @property
    def batch_size(self) -> int:
        """Crops of a batch, of all processes together."""
        return self.plans["configurations"][CONFIGURATION]["batch_size"]

    def input_files(self) -> list[Path]:
        """Return the files that say what is trained; structures.json may lie beside the raw cases, or be missing."""
        files = [self.preprocessed / f"{self.request.plans}.json", self.preprocessed / "dataset.json"]
        structures = structures_folder(self.preprocessed) / STRUCTURES_NAME
        return [*files, structures] if structures.is_file() else files


def make_job(request: PretrainRequest) -> PretrainJob:
    """Check what was asked for; no weights stay in memory.

    Raises:
        UsageError: unknown dataset, plans or fold, or a base that does not fit.
        FssegError: preprocessed cases are missing or damaged.
    """
    preprocessed = dataset_folder(preprocessed_folder(), request.dataset)
    structures = preprocessed_structures(preprocessed)
    plans = _read_plans(preprocessed, request)
    require_all_cases(preprocessed, plans, structures)
    _require_fold(request.fold, preprocessed, structures)
    require_loss_fits(request.settings, structures)
    flips = flips_of_pretraining(request.settings, structures.names)
    dataset_json = read_dataset_json(preprocessed / "dataset.json")
    base = None if request.checkpoint is None else ModelFolder.read(request.checkpoint)
    notes, seen = random_start_notes(request.recipe, plans), set[str]()
    if base is not None:
        require_fits(base, plans, dataset_json, preprocessed.name)
        dataset_json = inherited(dataset_json, base)
        notes, seen = start_notes(base, plans, structures.names), seen_cases(base)
    plans[PLANS_KEY] = training_block(request.settings, preprocessed, structures, request.fold, base)
    return PretrainJob(
        request=request,
        preprocessed=preprocessed,
        structures=structures,
        plans=plans,
        dataset_json=dataset_json,
        base=None if base is None else base.provenance(),
        mirroring_axes=flips.axes,
        start_notes=tuple(notes),
        seen=frozenset(seen),
    )


def _read_plans(preprocessed: Path, request: PretrainRequest) -> PlansContent:
    file = preprocessed / f"{request.plans}.json"
    if not file.is_file():
        known = [path.stem for path in listed(preprocessed, "*.json") if "configurations" in path.read_text("utf-8")]
        chosen = f" --plans {request.plans}" if request.plans in PLANS.files() else ""
        hint = f"They are those of the dataset. Make others: fsseg preprocess --dataset {request.dataset}{chosen}"
        raise unknown_name("plans", request.plans, known, hint)
    return read_plans_file(file)


def _require_fold(fold: str, preprocessed: Path, structures: Structures) -> None:
    if fold == "all":
        return
    splits = preprocessed / SPLITS_NAME
    number = int(fold) if fold.isascii() and fold.isdecimal() else FOLDS
    if splits.is_file() and fold == str(number):  # it may have more folds, or fewer
        require_splits(splits, structures.cases, number)
    elif number >= FOLDS or fold != str(number):
        raise UsageError(
            f"Unknown fold {fold!r}.\n  allowed: 0 to {FOLDS - 1} (hold out other cases each), all (train on all cases)"
        )
