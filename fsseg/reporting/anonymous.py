"""Names for cases, and texts without folders, on pages that go to strangers."""

import re
from collections.abc import Iterable

_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|~?[\\/]|\.{1,2}[\\/])(?:[^\s\\/,;:'\"]+[\\/])*(?=[^\s\\/])")


def without_folders(text: str) -> str:
    """Return a text in which every path that begins at a root, at ~ or at . is reduced to its last part."""
    return _FOLDERS.sub("", text)


def anonymous_names(cases: Iterable[str]) -> dict[str, str]:
    """Return case -> case_001, case_002, …, in the order of the sorted identifiers, so the same cases have the same."""
    ordered = sorted(set(cases))
    digits = max(3, len(str(len(ordered))))
    return {case: f"case_{number:0{digits}d}" for number, case in enumerate(ordered, start=1)}
