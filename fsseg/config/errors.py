"""Errors that a user can act on: what is wrong, what was received, what is allowed, what to do."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

_MOST_PROBLEMS, _MOST_ERRORS = 20, 50
_MOST_OF_VALUE, _MOST_OF_LINE = 200, 4000  # characters; a line may list the names of a hundred structures
_Short = reprlib.Repr()
_Short.maxdict = _Short.maxlist = _Short.maxtuple = _Short.maxset = 20
_Short.maxlevel, _Short.maxstring, _Short.maxother = 4, _MOST_OF_VALUE, _MOST_OF_VALUE


class FssegError(Exception):
    """A failure with a message for the user; the command line prints it without a traceback and exits 1."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__("\n".join(_cut(line, _MOST_OF_LINE) for line in message.split("\n")))


class UsageError(FssegError):
    """A mistake in what the user asked for (option, config, spec); the command line exits 2."""

    exit_code = 2


def shown(value: Any) -> str:
    """Return a value of a stranger's file as a message may show it: like `repr`, but never longer than a line."""
    if isinstance(value, str):
        return repr(_cut(value, _MOST_OF_VALUE))
    return _cut(_Short.repr(value), _MOST_OF_VALUE)


def shown_line(said: object) -> str:
    """Return what a library says, such as an exception, as one line of bounded length."""
    return shown(re.sub(r"\s+", " ", str(said)))[1:-1]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def nearest_name(received: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that a misspelt one most likely means, or None if none is near."""
    return next(iter(difflib.get_close_matches(received[:_MOST_OF_VALUE], list(allowed), n=1)), None)


def unknown_name(kind: str, received: str, allowed: Iterable[str], hint: str = "") -> UsageError:
    """Build the error for a name that is not in a known set, with the nearest allowed names first.

    Args:
        kind: what the name stands for, such as "method" or "structure".
        received: the name that the user gave.
        allowed: all valid names.
        hint: what to do, such as a command that lists the names.
    """
    names = sorted(set(allowed))
    nearest = difflib.get_close_matches(received[:_MOST_OF_VALUE], names, n=3, cutoff=0.5)
    ordered = nearest + [name for name in names if name not in nearest]
    message = f"Unknown {kind} {shown(received)}."
    if nearest:
        message += f" Did you mean {nearest[0]!r}?"
    message += f"\n  allowed: {', '.join(ordered) if ordered else '(none)'}"
    if hint:
        message += f"\n  {hint}"
    return UsageError(message)


def require_known(kind: str, received: Iterable[str], allowed: Iterable[str], hint: str = "") -> None:
    """Raise `unknown_name` for the first of `received` that is not in `allowed`."""
    names = set(allowed)
    for name in received:
        if name not in names:
            raise unknown_name(kind, name, names, hint)


def first_of(items: Sequence[object], most: int) -> str:
    """Return the first items in one line, and how many more there are."""
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def listed_problems(problems: Sequence[str], where: str) -> str:
    """Return a count of problems, where they are and a line for each of the first ones; advice may follow.

    Args:
        problems: what is wrong, one text each.
        where: in what it was found, such as "12 cases".
    """
    plural = "s" if len(problems) > 1 else ""
    return f"{len(problems)} problem{plural} in {where}; nothing was written:\n{_listing(problems, _MOST_PROBLEMS)}"


def listed_errors(problems: Sequence[str], where: str) -> str:
    """Return the problems of a file or of options, a line for each of the first ones."""
    plural = "s" if len(problems) > 1 else ""
    return f"{len(problems)} error{plural} in {where}:\n{_listing(problems, _MOST_ERRORS)}"


def _listing(problems: Sequence[str], most: int) -> str:
    more = f"\n  ... and {len(problems) - most} more" if len(problems) > most else ""
    return "\n".join(f"  - {problem}" for problem in problems[:most]) + more
