"""What the cases of a preprocessed dataset annotate."""

from pathlib import Path

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json
from fsseg.data.dataset_json import named_labels
from fsseg.data.splits import Duplicates
from fsseg.data.structures import STRUCTURES_NAME, Structures, load_structures
from fsseg.nnunet.environment import structures_folder


def structures_of_preprocessed(folder: Path) -> Structures:
    """Read what preprocessed cases annotate, and put structures.json beside them where it is missing."""
    structures = preprocessed_structures(folder)
    if not (folder / STRUCTURES_NAME).is_file():
        structures.save(folder)
    return structures


def preprocessed_structures(folder: Path) -> Structures:
    """Read what preprocessed cases annotate.

    Raises:
        FssegError: structures.json numbers the structures in another way than dataset.json, which nnU-Net writes with
            the cases.
    """
    structures = load_structures(structures_folder(folder))
    file = folder / "dataset.json"
    labels = named_labels(read_json(file), file)
    different = [
        name for name, integers in structures.integers.items() if labels.get(name, integers) != tuple(sorted(integers))
    ]
    if different:
        source = structures_folder(folder) / STRUCTURES_NAME
        raise FssegError(
            f"{source} and {file} give {', '.join(different)} different integers, so one of them is not of the"
            " preprocessed cases.\n"
            f"  Delete {folder} and preprocess the dataset again: fsseg preprocess"
        )
    return structures


def duplicates_of_preprocessed(preprocessed: Path) -> Duplicates:
    """Return the groups of cases that are the same image; none where the raw cases, which would say it, are gone."""
    source = structures_folder(preprocessed)
    return load_structures(source).duplicates if source.is_dir() else ()
