"""Writing the cases of a joined dataset: images are linked where they can be, label maps where they fit."""

import os
import shutil
from pathlib import Path

from fsseg.config.manifest import sha256_of_files
from fsseg.data.case_files import CaseFiles
from fsseg.data.case_labels import LabelledCase
from fsseg.data.folder_listing import files_of
from fsseg.data.images import write_image
from fsseg.data.layouts import FILE_ENDING


def write_case(folder: Path, case: str, files: CaseFiles, labelled: LabelledCase) -> None:
    """Put one case into the imagesTr and labelsTr of an nnU-Net raw dataset.

    Args:
        folder: the dataset folder.
        case: name of the case in the joined dataset.
        files: the files of the source.
        labelled: the checked case.

    Raises:
        FssegError: a file was not written whole.
    """
    images, labels = folder / "imagesTr", folder / "labelsTr"
    for subfolder in (images, labels):
        subfolder.mkdir(exist_ok=True)
    if labelled.image is None:
        link(files.image, images / f"{case}_0000{FILE_ENDING}")
    else:
        write_image(labelled.image, images / f"{case}_0000{FILE_ENDING}")
    target = labels / f"{case}{FILE_ENDING}"
    if labelled.reusable:
        link(labelled.reusable, target)
    elif labelled.labels is not None:
        write_image(labelled.labels, target)


def link(source: Path, target: Path) -> None:
    """Make `target` show the content of `source`: by a hard link, else a symbolic link, else a copy."""
    source = source.resolve()
    for attempt in (os.link, os.symlink):
        try:
            attempt(source, target)
            return
        except OSError:
            continue  # another file system, or links are not allowed here
    shutil.copy2(source, target)


def case_hashes(files: CaseFiles) -> dict[str, str]:
    """Return the SHA-256 of the image and of the labels (for several files: of their hashes by name)."""
    labels = [file for _, path in sorted(files.labels.items()) for file in files_of(path)]
    return {"image": sha256_of_files(files_of(files.image)), "labels": sha256_of_files(labels)}
