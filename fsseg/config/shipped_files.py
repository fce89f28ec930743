"""Files that come with fsseg and are given by name: dataset specs, plans and tables, in a checkout and in a wheel."""

import json
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from fsseg.config.errors import UsageError, unknown_name

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Shipped:
    """One kind of shipped files.

    Attributes:
        noun: what such a file is called in messages.
        folder: where they lie: below the repository in a checkout, below fsseg/shipped where fsseg is installed.
        ending: of their names.
        listing: the command that lists them.
    """

    noun: str
    folder: str
    ending: str
    listing: str

    def files(self) -> dict[str, Path]:
        """Return the files by name, without the ending, in alphabetical order."""
        installed = _PACKAGE / "shipped" / self.folder
        folder = installed if installed.is_dir() else _PACKAGE.parent / self.folder
        return {path.stem: path for path in sorted(folder.glob(f"*{self.ending}"))}


SPECS = Shipped("dataset spec", "dataset_specs", ".yaml", "fsseg assemble --list")
TABLES = Shipped("table", "scripts/tables", ".yaml", "fsseg table --list")
PLANS = Shipped("plans file", "plans", ".json", "fsseg preprocess --list-plans")


def find_file(word: str | Path, kind: Shipped, otherwise: str = "") -> Path:
    """Return the file that a word means: a path if there is such a file, else the shipped file of that name.

    Args:
        word: a path, or a name with or without its ending.
        kind: what kind of file is meant.
        otherwise: what else may be given, for the message.

    Raises:
        UsageError: neither is there.

    Example:
        find_file("btcv", SPECS)
    """
    path, shipped = Path(word), kind.files()
    if path.is_file():
        return path
    name = path.name.removesuffix(kind.ending)
    if name in shipped and path.parent == Path():
        return shipped[name]
    if path.exists():
        return path  # a folder or a pipe: who reads it says so
    if name in shipped:
        raise UsageError(
            f"File not found: {path}\n  fsseg ships a {kind.noun} of that name: give the name alone, {name}."
        )
    hint = f"File not found: {path}\n  Give another, or a shipped name; `{kind.listing}` describes those. {otherwise}"
    raise unknown_name(kind.noun, str(word), shipped, hint.rstrip())


def description_of(file: Path) -> str:
    """Return in words what a shipped file is: the description in plans, the comment at the head of a spec."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return json.loads(text)["description"]
    head = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in head)
