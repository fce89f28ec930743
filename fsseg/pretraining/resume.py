"""Whether `--resume` continues the training that an unfinished run was begun as."""

import hashlib
from pathlib import Path

from fsseg.config.errors import UsageError
from fsseg.config.json_files import read_json
from fsseg.config.manifest import sha256_of_file
from fsseg.config.pretraining import PLANS_KEY, PretrainSettings, settings_of_plans
from fsseg.config.results import JsonObject
from fsseg.data.structures import Structures
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.environment import SPLITS_NAME
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import STATISTICS

_MAY_CHANGE = ("workers", "checkpoint_minutes")  # what does not change the result


def training_block(
    settings: PretrainSettings, preprocessed: Path, structures: Structures, fold: str, base: ModelFolder | None
) -> JsonObject:
    """Return what the plans of a run carry under the key "fsseg": its settings, what it starts from, and its data.

    Args:
        settings: of the training.
        preprocessed: folder of the dataset, which may hold nnU-Net's folds.
        structures: of the dataset.
        fold: its number, or "all".
        base: the model to start from.
    """
    digest = hashlib.sha256(structures.model_dump_json(by_alias=True).encode()).hexdigest()
    data = {"dataset": preprocessed.name, "fold": fold, "structures and annotated cases": f"sha256 {digest[:12]}"}
    if fold != "all" and (preprocessed / SPLITS_NAME).is_file():
        data[SPLITS_NAME] = f"sha256 {sha256_of_file(preprocessed / SPLITS_NAME)[:12]}"
    if base is not None:
        data["base"] = f"sha256 {base.sha256[:12]}"
    return {"pretrain": settings.model_dump(mode="json"), "data": data}


def require_same_training(plans: PlansContent, unfinished: Path) -> None:
    """Raise `UsageError` if the plans of an unfinished run say another training, or if the run is none of a training.

    Args:
        plans: of the training asked for, with `training_block`.
        unfinished: staging folder, which need not exist.
    """
    file = unfinished / "plans.json"
    if not file.is_file():  # stopped before its first step, or never begun
        return
    begun = read_json(file)
    if "data" not in begun.get(PLANS_KEY, {}):
        raise UsageError(
            f"{unfinished} holds no training that --resume could continue.\n"
            "  Delete that folder to start again, or choose another --out."
        )
    lines = _differences(begun, plans)
    for key, words in (("configurations", "the configuration"), (STATISTICS, "the intensity statistics")):
        if begun.get(key) != plans.get(key):
            lines.append(f"  - {words} of the plans")
    if lines:
        raise UsageError(
            "--resume continues a training as it was begun, but these differ:\n" + "\n".join(lines) + "\n"
            "  Give the command that it was begun with, with the files as they were, or choose another --out."
        )


def _differences(before: PlansContent, now: PlansContent) -> list[str]:
    # A setting that there was not yet when a run was begun has its default.
    old, new = (
        {**plans[PLANS_KEY]["data"], **settings_of_plans(plans).model_dump(mode="json")} for plans in (before, now)
    )
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in _MAY_CHANGE]
    return [f"  - {key}: {old.get(key)} before, {new.get(key)} now" for key in keys]
