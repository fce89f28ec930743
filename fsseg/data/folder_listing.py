"""What counts as a file of a folder: not what operating systems leave beside the user's own."""

from pathlib import Path

_LEFT_BY_SYSTEMS = {"thumbs.db", "desktop.ini", "__macosx"}  # of Windows, and of archives made on a Mac


def is_own(path: Path) -> bool:
    """Return whether a name is that of a file or folder of the user's.

    Hidden ones are not: archives made on a Mac hold a ._lung_001.nii.gz beside lung_001.nii.gz, which is no image.
    """
    return not path.name.startswith(".") and path.name.lower() not in _LEFT_BY_SYSTEMS


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what lies in a folder, sorted by name; every folder of images, label maps or slices is listed by it.

    Args:
        folder: it may be missing, then nothing lies in it.
        pattern: as of `Path.glob`; the folders between `folder` and a file must be the user's, too.
    """
    paths = sorted(folder.glob(pattern))
    return [path for path in paths if all(is_own(Path(part)) for part in path.relative_to(folder).parts)]


def files_of(path: Path) -> list[Path]:
    """Return the files in a folder, such as that of a DICOM series, sorted by name; of a file itself."""
    return [file for file in listed(path) if file.is_file()] if path.is_dir() else [path]
