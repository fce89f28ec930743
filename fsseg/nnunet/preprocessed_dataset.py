"""The folder of a preprocessed dataset: made beside, then put in place; incomplete ones are refused."""

import filecmp
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import read_json, write_json
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.config.progress import LogLines, Progress, on_terminal
from fsseg.config.staging import clear_staging, locked_staging
from fsseg.data.dataset_json import read_dataset_json
from fsseg.data.folder_listing import listed
from fsseg.data.joined_files import link
from fsseg.data.structures import STRUCTURES_NAME, Structures, load_structures
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.environment import SPLITS_NAME, dataset_id_of, nnunet_folders, raw_folder
from fsseg.nnunet.quiet import nnunet_failures, quiet
from fsseg.nnunet.raw_dataset import RawDataset
from fsseg.nnunet.validation import REFERENCE_FOLDER

CONFIGURATION = "3d_fullres"
_CASE_FILES = (("{}.pkl", "{}.b2nd", "{}_seg.b2nd"), ("{}.pkl", "{}.npz"))  # of nnU-Net's two ways to store a case
_MOST_CASES = 10


@contextmanager
def new_preprocessed(folder: Path, dataset: RawDataset) -> Iterator[Path]:
    """Yield an empty folder whose content takes its place in `folder` when the block ends without an error.

    Inside the block nnU-Net's own functions write there, too. What `folder` holds of other plans stays; what it holds
    of these is replaced, by nnU-Net's habit. The plans come last but for the manifest: without them nothing is trained
    on the cases, so a kill leaves the old ones, or none. One process at a time makes a dataset.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed.
        dataset: the raw dataset; inside the block nnU-Net sees its labelled cases alone.

    Raises:
        UsageError: another process is making it.
    """
    # Not named Dataset…: nnU-Net looks datasets up by the beginning of their folders' names.
    # Nor is it renamed as a whole, so that whatever lies in it was left by a killed run.
    with locked_staging(folder.with_name(f"preprocess_{folder.name}"), folder, checkpoints="*") as staging:
        clear_staging(staging)  # left by a killed run
        new = staging / folder.name
        try:
            new.mkdir()
            _keep_splits(folder, new)
            with nnunet_folders(raw=_cases_only(dataset, staging / "raw"), preprocessed=staging):
                yield new
            _put_in_place(new, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _cases_only(dataset: RawDataset, raw: Path) -> Path:
    """Make an nnUNet_raw of links to a dataset without unlabelled images and hidden files, on which nnU-Net fails."""
    view = raw / dataset.path.name
    (view / "imagesTr").mkdir(parents=True)
    for path in dataset.path.iterdir():
        if path.name != "imagesTr":
            _show(path.absolute(), view / path.name)
    for file in (file for files in dataset.images_of_cases().values() for file in files):
        _show(file.absolute(), view / "imagesTr" / file.name)
    return raw


def _show(path: Path, at: Path) -> None:
    """Make a link to a file or folder, or a copy where links are not allowed, as on Windows by default."""
    try:
        at.symlink_to(path, target_is_directory=path.is_dir())
    except OSError:
        if path.is_dir():
            shutil.copytree(path, at)
        else:
            link(path, at)


def _keep_splits(folder: Path, new: Path) -> None:
    """Copy splits that trainings may refer to; nnU-Net's planner copies those of the raw dataset where there are none.

    Raises:
        UsageError: both exist and differ.
    """
    ours, raw = folder / SPLITS_NAME, raw_folder() / folder.name / SPLITS_NAME
    if not ours.is_file():
        return
    if raw.is_file() and not filecmp.cmp(ours, raw, shallow=False):
        raise UsageError(f"Two files say different splits: {ours} and {raw}\n  Delete the one that no training uses.")
    shutil.copyfile(ours, new / SPLITS_NAME)


def _put_in_place(new: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plans = read_json(new / MANIFEST_NAME)["plans"]
    last = [f"{plans}.json", MANIFEST_NAME]
    for name in reversed(last):
        (folder / name).unlink(missing_ok=True)
    others = [path.name for path in new.iterdir() if path.name not in last]
    for name in [*others, *last]:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        (new / name).replace(folder / name)


def require_same_integers(folder: Path, structures: Structures, plans: Path | None = None) -> None:
    """Raise `UsageError` if plans have cases in the folder of a dataset whose integers mean something else.

    Args:
        folder: the dataset's folder in nnUNet_preprocessed; its structures are about to be replaced.
        structures: the dataset's structures now.
        plans: the plans whose cases are about to be replaced, too.
    """
    ours = None if plans is None else resolved(read_json(plans), CONFIGURATION)["data_identifier"]
    others = sorted({file.parent.name for file in listed(folder, "*/*.pkl")} - {ours})
    if others and load_structures(folder).integers != structures.integers:
        raise UsageError(
            f"{folder} holds preprocessed cases ({', '.join(others)}) from label maps with other integers.\n"
            "  The structures of both cannot stand in one folder: delete those cases, or the whole folder."
        )


def preprocess_dataset(dataset: RawDataset, preprocessed: Path, plans_name: str, workers: int) -> int:
    """Preprocess every case of a raw dataset; return the number of cases.

    Args:
        dataset: the raw dataset, whose cases can be used.
        preprocessed: its folder in nnUNet_preprocessed, which holds the plans.
        plans_name: name of the plans.
        workers: 1 works in this process, which is fastest for small cases; more start nnU-Net's worker processes.
    """
    write_json(preprocessed / "dataset.json", dataset.dataset_json)
    name, cases = dataset.path.name, dataset.images_of_cases()
    plans = PlansManager(read_json(preprocessed / f"{plans_name}.json"))
    configuration = plans.get_configuration(CONFIGURATION)
    out = preprocessed / configuration.data_identifier
    if workers > 1:
        lines = LogLines("preprocess", lambda: len(list(out.glob("*.pkl"))), len(cases), "case")
        with nnunet_failures(f"{name} cannot be preprocessed"), quiet(), lines:
            identifier, show = dataset_id_of(preprocessed), on_terminal()
            preprocess([identifier], plans_name, (CONFIGURATION,), (workers,), show_progress_bar=show)
        return len(cases)
    for folder in (out, preprocessed / REFERENCE_FOLDER):
        folder.mkdir()
    preprocessor = configuration.preprocessor_class(verbose=False)
    with Progress("preprocess", len(cases), "case") as progress:
        for case, images in progress.over(cases.items()):
            files, label, file = [str(image) for image in images], dataset.label(case), str(out / case)
            with nnunet_failures(f"Case {case!r} of {name} cannot be preprocessed"), quiet():
                preprocessor.run_case_save(file, files, str(label), plans, configuration, dataset.dataset_json)
            # Where nnU-Net's validation looks for it; its own preprocessing copies it, too.
            shutil.copyfile(label, preprocessed / REFERENCE_FOLDER / label.name)
    return len(cases)


def require_all_cases(preprocessed: Path, plans: PlansContent, structures: Structures) -> None:
    """Raise `FssegError` unless every case of structures.json is preprocessed with some plans.

    Args:
        preprocessed: the dataset's folder in nnUNet_preprocessed.
        plans: the plans.
        structures: its structures.json.
    """
    folder = preprocessed / resolved(plans, CONFIGURATION)["data_identifier"]
    files = {path.name for path in folder.glob("*")}
    missing = [
        case
        for case in structures.cases
        if not any(files.issuperset(name.format(case) for name in names) for names in _CASE_FILES)
    ]
    if missing:
        names = ", ".join(missing[:_MOST_CASES]) + (", …" if len(missing) > _MOST_CASES else "")
        verb = "are" if len(missing) > 1 else "is"
        raise FssegError(
            f"{STRUCTURES_NAME} lists {len(structures.cases)} cases, of which {len(missing)} {verb} missing or"
            f" incomplete in {folder}: {names}\n"
            "  Preprocess the dataset again with these plans: fsseg preprocess"
        )


def preprocessed_cases(preprocessed: Path) -> list[str]:
    """Return the cases of a dataset's folder in nnUNet_preprocessed; its reference label maps name them."""
    ending = read_dataset_json(preprocessed / "dataset.json")["file_ending"]
    return [file.name.removesuffix(ending) for file in listed(preprocessed / REFERENCE_FOLDER, f"*{ending}")]
