"""The parser of the commands: argparse that names the nearest option or value where one is unknown."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from fsseg.config.errors import nearest_name


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers misspelt options and values with the nearest right one; no abbreviations.

    An option that takes several values and is given twice has the values of both.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument; argparse by itself would forget the first part of a list that is given in two parts."""
        if options.get("nargs") == "+" and str(names[0]).startswith("-"):
            options.setdefault("action", "extend")
        return super().add_argument(*names, **options)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse, after a look for misspelt options: argparse would first ask for a required one that was misspelt."""
        if self._subparsers is None:  # else the options are those of an action
            self._require_known_options(args or ())
        return super().parse_known_args(args, namespace)

    def _require_known_options(self, words: Iterable[str]) -> None:
        for word in words:
            option = word.partition("=")[0]
            if word == "--":
                return
            if word.startswith("--") and option not in self._option_string_actions:
                self.error(f"unrecognized arguments: {word}{_advice(option, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _advice(str(value), map(str, action.choices or ()))
            raise


def add_action(actions: Any, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    """Add an action of a command, such as `show` of `fsseg adapter`, with examples in its help."""
    return actions.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _advice(received: str, allowed: Iterable[str]) -> str:
    nearest = nearest_name(received, allowed)
    return f"; did you mean {nearest!r}?" if nearest else ""
