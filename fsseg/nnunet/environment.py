"""nnU-Net's folders, from its environment variables; the only place of fsseg that reads them."""

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsseg.config.errors import UsageError, unknown_name
from fsseg.data.structures import STRUCTURES_NAME

SPLITS_NAME = "splits_final.json"  # nnU-Net's folds, in the folder of a preprocessed dataset
_VARIABLES = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_set_here: dict[str, str] = {}  # what a block of fsseg has set for itself, as the demo its relative folders


def raw_folder() -> Path:
    """Return nnUNet_raw; raise `UsageError` with the line to type where it is not set, or not to a full path."""
    return _folder("nnUNet_raw")


def preprocessed_folder() -> Path:
    """Return nnUNet_preprocessed; raise `UsageError` as `raw_folder` does."""
    return _folder("nnUNet_preprocessed")


def require_full_paths() -> None:
    """Require that those of nnU-Net's variables that are set say the folders that their user means.

    nnU-Net takes a value as it is: with "~/results" or quotes in it, it makes a folder of that name wherever it runs.

    Raises:
        UsageError: one holds quotes, "~", blanks around it or a relative path; the message has the line to type.
    """
    for variable in _VARIABLES:
        if os.environ.get(variable):
            _folder(variable)


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
        where = f"They lie in {base}" if base.is_dir() else f"{base} does not exist."
        raise unknown_name("dataset", wanted, [folder.name for folder in folders], where)
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


def folders_of_number(number: int, but: str) -> list[Path]:
    """Return the folders that take a dataset's number: raw ones, and others of another name than `but`.

    nnU-Net looks a number up by the beginning of folder names in all its three folders, and refuses two names.
    """
    bases = [os.environ.get(variable) for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")]
    found = [path for base in bases if base for path in sorted(Path(base).glob(f"Dataset{number:03d}*"))]
    return [path for path in found if path.is_dir() and (path.parent == raw_folder() or path.name != but)]


def dataset_id_of(folder: Path) -> int:
    """Return 901 for Dataset901_HeadNeck."""
    return int(folder.name.removeprefix("Dataset")[:3])


def trainers_folder() -> Path:
    """Return the folder that nnUNet_extTrainer must name for nnU-Net's commands to find fsseg's trainers."""
    return Path(__file__).parents[1] / "nnunet_trainers"


def with_trainers_folder(folders: str) -> str:
    """Return a value of nnUNet_extTrainer that names fsseg's folder, too: behind what it names already, and once.

    Args:
        folders: the value now, folders joined as in PATH; may be empty.
    """
    named = [folder for folder in folders.split(os.pathsep) if folder.strip()]
    ours = trainers_folder().resolve()
    if ours not in [Path(folder).resolve() for folder in named]:
        named.append(str(ours))
    return os.pathsep.join(named)


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
    before, set_before = os.environ.get(name), dict(_set_here)
    os.environ[name] = _set_here[name] = value
    try:
        yield
    finally:
        _set_here.clear()
        _set_here.update(set_before)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _folder(variable: str) -> Path:
    value = os.environ.get(variable, "")
    if not value.strip():
        raise UsageError(
            f"The environment variable {variable} is not set, so nnU-Net's folder is unknown.\n"
            f"  Set it first, for example: {_example(variable)}"
        )
    if _set_here.get(variable) != value:
        _require_full_path(variable, value)
    if Path(value).is_file():
        raise UsageError(f"{variable} is {value}, a file.\n  Set it to a folder, for example: {_example(variable)}")
    return Path(value)


def _require_full_path(variable: str, value: str) -> None:
    """Require a full path and nothing else: nnU-Net reads the variable itself, and changes nothing in it."""
    flaws, meant = _as_meant(value)
    if not flaws:
        return
    known = not meant.startswith("~") and "$" not in meant
    line = f"export {variable}={shlex.quote(os.path.abspath(meant))}" if known else f"for example {_example(variable)}"
    raise UsageError(
        f"{variable} is {value!r}: {', '.join(flaws)}. nnU-Net takes it as it is, and would use another folder than is"
        f" meant.\n  Set it to the full path, without quotes in it: {line}"
    )


def _as_meant(value: str) -> tuple[list[str], str]:
    """Return what keeps a value from being a full path, and the path without that."""
    steps = (
        ("it has blanks or a line end around it", str.strip),
        ("it has quotes in it", lambda text: text.strip(_QUOTES).strip()),
        ("a variable in it was not replaced by its value", os.path.expandvars),
        ('"~" in it was not replaced by the home folder', os.path.expanduser),
    )
    flaws = []
    for flaw, step in steps:
        before, value = value, step(value)
        if value != before:
            flaws.append(flaw)
    if not os.path.isabs(value):
        flaws.append("it is relative, so it depends on where a command runs")
    return flaws, value


def _example(variable: str) -> str:
    return f"export {variable}=$HOME/nnUNet/{_VARIABLES[variable]}"
