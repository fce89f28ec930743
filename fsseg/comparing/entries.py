"""What is compared: run folders, which are predicted with, and folders of predictions from any tool."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsseg.comparing.trained_runs import TrainedRun, is_trained_run, read_trained_run
from fsseg.config.errors import UsageError, first_of, require_known
from fsseg.evaluation.label_folders import LabelFolder, open_label_folder

_NAME = re.compile(r"\w[\w.+ -]*", re.ASCII)
_SHOWN = 5


@dataclass(frozen=True)
class Entry:
    """One run, or one folder of predictions.

    Attributes:
        name: what it is called on the page; also that of a folder.
        run: the run to predict with; or else
        predictions: label maps that are there.
    """

    name: str
    run: TrainedRun | None
    predictions: LabelFolder | None

    @property
    def structures(self) -> tuple[str, ...]:
        """What it segments."""
        if self.run is not None:
            return self.run.structures
        assert self.predictions is not None
        return self.predictions.structures.names

    @property
    def about(self) -> str:
        """What it is, in words; empty where its files do not say."""
        return "predictions" if self.run is None else self.run.about

    @property
    def learned(self) -> frozenset[str]:
        """Cases that it was trained on, as far as its files say."""
        if self.run is not None:
            return self.run.learned
        assert self.predictions is not None
        return frozenset(self.predictions.support_cases)


def read_entries(words: Sequence[str]) -> list[Entry]:
    """Return what is to be compared.

    Args:
        words: FOLDER, which gets the folder's name, or NAME=FOLDER.

    Raises:
        UsageError: a folder is missing or neither a run nor predictions, or two have one name.
        FssegError: a file of a run is damaged.
    """
    entries = [_entry(*_named(word)) for word in words]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"Two of what is compared are called {twice[0]!r}.\n  Give them other names: NAME=FOLDER, as in"
            f" other={words[names.index(twice[0])].rpartition('=')[2]}"
        )
    return entries


def _named(word: str) -> tuple[str, Path]:
    name, separator, folder = word.partition("=")
    if not separator or Path(word).exists():  # a folder may have "=" in its name
        return Path(word).resolve().name, Path(word)
    return name, Path(folder)


def _entry(name: str, folder: Path) -> Entry:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a run: it becomes that of a folder.\n"
            "  allowed: letters, digits, spaces and . _ + -, beginning with a letter or digit: NAME=FOLDER"
        )
    if not folder.is_dir():
        raise UsageError(
            f"Folder not found: {folder}\n  Give a run folder of fsseg or nnU-Net, or NAME=FOLDER with a folder of"
            " label maps."
        )
    if is_trained_run(folder):
        return Entry(name, read_trained_run(folder), None)
    return Entry(name, None, open_label_folder(folder))


def shared_structures(
    entries: Sequence[Entry], reference: LabelFolder, wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the structures that the reference and all entries know, or those of `wanted`, and notes on the others.

    Raises:
        UsageError: a wanted structure is unknown to one of them, or they have none in common.
    """
    known = {"the reference": reference.structures.names, **{entry.name: entry.structures for entry in entries}}
    if wanted is not None:
        for owner, names in known.items():
            require_known("structure", wanted, names, f"These are the structures of {owner}.")
        return tuple(dict.fromkeys(wanted)), []
    common = tuple(name for name in reference.structures.names if all(name in names for names in known.values()))
    if not common:
        lines = "\n".join(f"  {owner}: {', '.join(names)}" for owner, names in known.items())
        raise UsageError(f"There is no structure that all of them know.\n{lines}\n  Structures are matched by name.")
    others = dict.fromkeys(name for names in known.values() for name in names if name not in common)
    asked = [f"{name} ({', '.join(o for o, names in known.items() if name in names)})" for name in others]
    return common, [f"Not compared, because not all know it: {first_of(asked, _SHOWN)}."] if asked else []


def require_unseen(entries: Iterable[Entry], test: Sequence[str]) -> None:
    """Raise `UsageError` if one of the entries was trained on a test case: its scores would say nothing."""
    lines = [
        f"  {entry.name}: {first_of(seen, _SHOWN)}"
        for entry in entries
        if (seen := sorted(entry.learned.intersection(test)))
    ]
    if lines:
        raise UsageError(
            "Test cases are among the cases that were trained on:\n" + "\n".join(lines) + "\n"
            "  Leave these cases out of the --test list."
        )
