"""Options that say which cases may be learned from, the same wherever an adaptation is described."""

import argparse

SHOTS_HELP = "support cases to draw from the pool (default: 5)"


def add_case_lists(parser: argparse.ArgumentParser) -> None:
    """Add --pool and --test."""
    parser.add_argument("--pool", help="file with the cases to draw from, one a line (default: all but the test cases)")
    parser.add_argument("--test", help="file with the test cases, one a line; never drawn")


def add_case_options(parser: argparse.ArgumentParser, cases_help: str) -> None:
    """Add --shots, --pool, --test and --cases."""
    parser.add_argument("--shots", type=int, help=SHOTS_HELP)
    add_case_lists(parser)
    parser.add_argument("--cases", nargs="+", help=cases_help)


def case_values(arguments: argparse.Namespace) -> dict[str, object]:
    """Return `pool`, `test`, `cases` and, where it was given, `shots`.

    Raises:
        UsageError: the support cases are named, and yet to be drawn.
    """
    from fsseg.config.errors import UsageError

    drawn = [word for word in ("shots", "pool") if getattr(arguments, word) is not None]
    if arguments.cases and drawn:
        words = " and ".join(f"--{word}" for word in drawn)
        raise UsageError(f"--cases names the support cases, {words} would draw them.\n  Give one of the two.")
    values = {name: getattr(arguments, name) for name in ("pool", "test", "cases")}
    return values if arguments.shots is None else {**values, "shots": arguments.shots}


def number_of_shots(arguments: argparse.Namespace, default: int) -> int:
    """Return how many support cases were asked for, by name or by number."""
    return len(set(arguments.cases)) if arguments.cases else arguments.shots or default
