"""Which checkpoints of a model folder are meant: of which folds, and the last ones or those that validated best."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from fsseg.config.errors import UsageError, first_of
from fsseg.config.staging import staging_of
from fsseg.methods.adapter_file import ADAPTER_NAME
from fsseg.nnunet.checkpoint_file import BEST_NAME, CHECKPOINT_NAME

_FOLD = "fold_"
_ALL = "all"  # nnU-Net's fold that holds nothing out
_MOST_NAMES = 8


def checkpoint_file(path: Path) -> Path:
    """Return the checkpoint of a model folder, of its first fold: the last one, or else the one that validated best.

    Raises:
        UsageError: the folder is none.
    """
    return next(iter(_checkpoints(path, _default_name(path)).values()))


def model_files(path: Path) -> list[Path]:
    """Return the files of which a model folder consists; raise `UsageError` if the folder is none."""
    return [checkpoint_file(path), path / "plans.json", path / "dataset.json"]


def fold_checkpoints(path: Path, folds: Sequence[str] = (), name: str | None = None) -> list[Path]:
    """Return the checkpoints of a model folder that predict together.

    Args:
        path: the model folder.
        folds: their numbers, or "all" for nnU-Net's fold that holds nothing out. Empty means every number there is,
            as in nnU-Net, and "all" where there is no number.
        name: of the checkpoint files; None takes the last ones, or else those that validated best.

    Raises:
        UsageError: the folder is none, or lacks one of these.
    """
    name = name or _default_name(path)
    found = _checkpoints(path, name)
    if not found:
        raise UsageError(
            f"No fold of {path} has a {name}.\n  allowed: {first_of(_names_of_checkpoints(path), _MOST_NAMES)}"
        )
    missing = [fold for fold in folds if fold not in found]
    if missing:
        raise UsageError(
            f"{path} has no {name} of fold {', '.join(missing)}.\n  allowed: {first_of(list(found), _MOST_NAMES)}"
        )
    numbers = [fold for fold in found if fold != _ALL]
    return [found[fold] for fold in dict.fromkeys(folds or numbers or found)]


def remarks_on(path: Path, used: Sequence[Path]) -> list[str]:
    """Return what to say of the checkpoints that are used: of which folds, and whether they are not the last ones."""
    name, folders = used[0].name, list(_folders(path).values())
    remarks = []
    if name != CHECKPOINT_NAME:
        best = ", which validated best during its training" if name == BEST_NAME else ""
        remarks.append(f"{path}: {name} is used{best}.")
    if len(used) < len(folders):
        names = [", ".join(folder.name for folder in some) for some in (folders, [file.parent for file in used])]
        lacking = [folder.name for folder in folders if not (folder / name).is_file()]
        why = f" ({', '.join(lacking)} without {name})" if lacking else ""
        remarks.append(f"{path} has {names[0]}: only {names[1]} {'is' if len(used) == 1 else 'are'} used{why}.")
    return remarks


def _default_name(path: Path) -> str:
    _require_model_folder(path)
    return CHECKPOINT_NAME if _checkpoints(path, CHECKPOINT_NAME) else BEST_NAME


def _require_model_folder(path: Path) -> None:
    if path.is_file():
        raise UsageError(
            f"{path} is a file, not a model folder.\n  Give the folder that holds its plans.json; a file that has none"
            " becomes one with `fsseg import`."
        )
    if not path.is_dir():
        again = "give its command again, with --resume if it is a pretraining"
        hint = f" (an unfinished run lies beside it: {again})" if staging_of(path).is_dir() else ""
        raise UsageError(
            f"Checkpoint folder not found: {path}{hint}\n  Give the --out folder of `fsseg pretrain` or `fsseg import`."
        )
    found = _checkpoints(path, CHECKPOINT_NAME) or _checkpoints(path, BEST_NAME)
    if found and (path / "plans.json").is_file() and (path / "dataset.json").is_file():
        return
    if (path / ADAPTER_NAME).is_file():
        raise UsageError(
            f"{path} is not a model folder: its method does not merge, and its adapter runs on its base.\n"
            f"  fsseg predict --base BASE --adapter {shlex.quote(str(path / ADAPTER_NAME))}, where BASE is the"
            " --checkpoint of its `fsseg adapt`"
        )
    raise UsageError(
        f"{path} is not a model folder: plans.json, dataset.json and fold_*/{CHECKPOINT_NAME} are needed.\n"
        "  Give the --out folder of `fsseg pretrain`, or an nnU-Net results folder."
    )


def _folders(path: Path) -> dict[str, Path]:
    """Return fold -> its folder: by number, "all" at the end."""
    folders = {folder.name.removeprefix(_FOLD): folder for folder in path.glob(f"{_FOLD}*") if folder.is_dir()}
    numbers = sorted((fold for fold in folders if fold.isdecimal()), key=int)
    return {fold: folders[fold] for fold in (*numbers, _ALL) if fold in folders}


def _checkpoints(path: Path, name: str) -> dict[str, Path]:
    return {fold: folder / name for fold, folder in _folders(path).items() if (folder / name).is_file()}


def _names_of_checkpoints(path: Path) -> list[str]:
    return sorted({file.name for folder in _folders(path).values() for file in folder.glob("*.pth")})
