"""nnU-Net's folders, from its environment variables; the only place of fsseg that reads them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsseg.config.errors import UsageError, unknown_name
from fsseg.data.structures import STRUCTURES_NAME

SPLITS_NAME = "splits_final.json"  # nnU-Net's folds, in the folder of a preprocessed dataset


def raw_folder() -> Path:
    """Return nnUNet_raw; raise `UsageError` with the line to type where it is not set."""
    return _folder("nnUNet_raw", "raw")


def preprocessed_folder() -> Path:
    """Return nnUNet_preprocessed; raise `UsageError` with the line to type where it is not set."""
    return _folder("nnUNet_preprocessed", "preprocessed")


def dataset_folder(base: Path, dataset: int | str) -> Path:
    """Return the folder of a dataset below nnUNet_raw or nnUNet_preprocessed.

    Args:
        base: the folder that holds the datasets.
        dataset: its number (104, "104") or name ("Dataset104_HeadNeckTarget", "HeadNeckTarget").

    Raises:
        UsageError: no dataset fits (the message lists those that exist), or several do.
    """
    folders = existing_datasets(base)
    wanted = str(dataset)
    if wanted.isdecimal():
        found = [folder for folder in folders if folder.name.startswith(f"Dataset{int(wanted):03d}_")]
    else:
        found = [folder for folder in folders if wanted in (folder.name, folder.name.partition("_")[2])]
    if not found:
        raise unknown_name("dataset", wanted, [folder.name for folder in folders], f"They lie in {base}")
    if len(found) > 1:
        listing = ", ".join(folder.name for folder in found)
        raise UsageError(f"Several datasets in {base} fit {wanted!r}: {listing}\n  Give the full name of one.")
    return found[0]


def structures_folder(preprocessed: Path) -> Path:
    """Return which folder says what preprocessed cases annotate: theirs, or that of the raw ones.

    Stock preprocessing leaves structures.json with the raw cases. A plain dataset has it nowhere; its dataset.json and
    label maps are with the raw cases, too.
    """
    has_own = (preprocessed / STRUCTURES_NAME).is_file()
    return preprocessed if has_own else raw_folder() / preprocessed.name


def existing_datasets(base: Path) -> list[Path]:
    """Return the complete dataset folders (DatasetNNN_Name) below `base`, sorted by name."""
    folders = base.glob("Dataset[0-9][0-9][0-9]_*")
    return sorted(folder for folder in folders if folder.is_dir() and "." not in folder.name)


def dataset_id_of(folder: Path) -> int:
    """Return 901 for Dataset901_HeadNeck."""
    return int(folder.name.removeprefix("Dataset")[:3])


def trainers_folder() -> Path:
    """Return the folder that nnUNet_extTrainer must name for nnU-Net's commands to find fsseg's trainers."""
    return Path(__file__).parents[1] / "nnunet_trainers"


@contextmanager
def nnunet_folders(*, raw: Path, preprocessed: Path) -> Iterator[None]:
    """Let nnUNet_raw and nnUNet_preprocessed point to other folders than the user's while a block runs."""
    with _variable("nnUNet_raw", str(raw)), _variable("nnUNet_preprocessed", str(preprocessed)):
        yield


@contextmanager
def temporary_results_folder() -> Iterator[None]:
    """Let nnUNet_results point to a folder that vanishes, for nnU-Net code that insists on creating one."""
    with tempfile.TemporaryDirectory() as folder, _variable("nnUNet_results", folder):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _folder(variable: str, example: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise UsageError(
            f"The environment variable {variable} is not set, so nnU-Net's folder is unknown.\n"
            f"  Set it first, for example: export {variable}=$HOME/nnUNet/{example}"
        )
    return Path(value)
