"""Writing the cases of a joined dataset: images are linked, label maps too where they already fit."""

import hashlib
import os
import shutil
from pathlib import Path

import SimpleITK

from fsseg.config.manifest import sha256_of_file
from fsseg.data.case_files import CaseFiles
from fsseg.data.case_labels import LabelledCase
from fsseg.data.specs import FILE_ENDING


def write_case(folder: Path, case: str, files: CaseFiles, labelled: LabelledCase) -> None:
    """Put one case into the imagesTr and labelsTr of an nnU-Net raw dataset.

    Args:
        folder: the dataset folder.
        case: name of the case in the joined dataset.
        files: the files of the source.
        labelled: the checked case.
    """
    images, labels = folder / "imagesTr", folder / "labelsTr"
    for subfolder in (images, labels):
        subfolder.mkdir(exist_ok=True)
    link(files.image, images / f"{case}_0000{FILE_ENDING}")
    target = labels / f"{case}{FILE_ENDING}"
    if labelled.reusable:
        link(labelled.reusable, target)
    elif labelled.labels is not None:
        SimpleITK.WriteImage(labelled.labels, str(target), True)


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
    """Return the SHA-256 of the image and of the labels (for several masks: of their hashes by name)."""
    hashes = [sha256_of_file(path) for _, path in sorted(files.labels.items())]
    joined = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return {"image": sha256_of_file(files.image), "labels": joined}
