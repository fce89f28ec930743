"""README and docs as the tests read them: sections, commands, prose and links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from conftest import REPOSITORY

README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
OTHERS = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results/README.md")
DOCUMENTS = [README, *(REPOSITORY / name for name in OTHERS), *DOCS]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def name_of(document: Path) -> str:
    """Return the path below the repository, as the name of a test."""
    return document.relative_to(REPOSITORY).as_posix()


def section(document: Path, title: str) -> str:
    """Return what is below a heading of level two."""
    return read(document).split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return [code for kind, code in _BLOCK.findall(text) if kind == language]


def commands(document: Path) -> list[str]:
    """Return the lines of the bash blocks that run something, each as one line; `a && b` are two."""
    lines = "\n".join(blocks(read(document), "bash")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part and not part.startswith("#")]


def words_of_fsseg(command: str) -> list[str]:
    """Return the words behind `fsseg` of a command, also of one that torchrun starts; none of another program."""
    words = shlex.split(command, comments=True)
    start = words.index("fsseg") + 1 if words[0] in ("fsseg", "torchrun") else len(words)
    return words[start:]


def inline_code(text: str) -> list[str]:
    """Return what stands between backticks outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences outside of code blocks, tables and headings; an entry of a list is a paragraph of its own."""
    prose = "\n".join(line for line in _BLOCK.sub("", text).splitlines() if not line.startswith(("#", "|", "!")))
    prose = re.sub(r"\]\([^)]*\)", "]", prose)  # addresses of links are not read
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:-|\d+\.) |^(?:-|\d+\.) ", prose):
        yield from re.split(r"(?<=[.!?])[*_)]*\s+(?=\S)", " ".join(paragraph.split()))


def links(text: str) -> list[str]:
    """Return the addresses of links and pictures outside of code blocks."""
    return re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", text))


def anchors(document: Path) -> set[str]:
    """Return the anchors that a code host makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", read(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
