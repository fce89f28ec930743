"""Names of cases that cannot become names of files."""

from collections.abc import Iterable

from fsseg.config.errors import FssegError, first_of

# NIfTI's own endings: behind one of these the library that writes the file takes the rest of the name for its ending.
_NIFTI_ENDINGS = (".nii", ".hdr", ".img", ".nia", ".nii.gz", ".hdr.gz", ".img.gz", ".nia.gz")
_MOST_NAMES = 5


def misread_names(cases: Iterable[str]) -> list[str]:
    """Return the cases whose files would be written under other names: x.nii.nii.gz becomes x.nii."""
    return [case for case in cases if case.lower().endswith(_NIFTI_ENDINGS)]


def require_plain_names(cases: Iterable[str], where: object) -> None:
    """Raise `FssegError` if a case of a folder is named like a NIfTI file."""
    misread = misread_names(cases)
    if misread:
        raise FssegError(
            f"{len(misread)} case(s) of {where} have names that end like those of files:"
            f" {first_of(misread, _MOST_NAMES)}\n  NIfTI files of these names are not written under them."
            f" Rename {misread[0]} to {misread[0].partition('.')[0]} in the names of its files."
        )
