"""An option that lists shipped files by name and stops, as --help does."""

import argparse
import shutil
import sys
import textwrap
from typing import Any

from fsseg.config.shipped_files import Shipped, description_of

_WIDEST = 120


class ListShipped(argparse.Action):
    """Prints name and description of each shipped file, a line each.

    Args:
        shipped: the kind of files.
    """

    def __init__(self, option_strings: list[str], dest: str, *, shipped: Shipped, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)
        self.shipped = shipped

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and stop."""
        files = self.shipped.files()
        names = max(map(len, files)) + 2
        width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
        for name, file in files.items():
            about = textwrap.shorten(description_of(file), width - names, placeholder=" …")
            sys.stdout.write(f"{name:<{names}}{about}\n")
        parser.exit()
