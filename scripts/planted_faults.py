"""Plant faults in a copy of fsseg, one at a time, and list which of them the tests notice.

    python scripts/planted_faults.py                                # those of `pytest`, in the last commit
    python scripts/planted_faults.py --tests "-m full"              # those of another tier
    python scripts/planted_faults.py --rev v0.1 --faults dice hd95  # an earlier suite on its own code

A fault is looked for in all of fsseg, so that modules may have other names in another revision. The first test that
fails is in the table; it must pass without the fault. The exit code is 1 if a fault was missed or not found.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from faults import FAULTS, Fault

REPOSITORY = Path(__file__).resolve().parents[1]
MISSED = "MISSED"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+\.py(?:::\S+?(?:\[.*?\])?)?)(?= - |$)", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Plant the faults and print the table; return 1 if one was missed or not found."""
    arguments = _parser().parse_args(argv)
    chosen = [fault for fault in FAULTS if not arguments.faults or fault.name in arguments.faults]
    rows = []
    with copy_of(arguments.rev) as tree:
        for fault in chosen:
            rows.append((fault, verdict(fault, tree, shlex.split(arguments.tests))))
            sys.stdout.write(f"{fault.package:<12} {fault.name:<24} {rows[-1][1]}\n")
            sys.stdout.flush()
    sys.stdout.write("\n" + table(rows) + "\n")
    return int(any(not caught.startswith("tests/") for _, caught in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rev", default="HEAD", help="commit whose code and tests are taken (default: the last)")
    parser.add_argument("--faults", nargs="+", choices=[fault.name for fault in FAULTS], metavar="NAME")
    parser.add_argument("--tests", default="", help="arguments of pytest, as one word (default: none)")
    return parser


@contextmanager
def copy_of(revision: str) -> Iterator[Path]:
    """Yield a working tree of a revision that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "fsseg"
        git = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def places_of(fault: Fault, tree: Path) -> list[Path]:
    """Return the modules of a tree that hold the text of a fault, each as often as it does."""
    modules = sorted((tree / "fsseg").rglob("*.py"))
    return [module for module in modules for _ in range(module.read_text(encoding="utf-8").count(fault.text))]


def verdict(fault: Fault, tree: Path, arguments: Sequence[str]) -> str:
    """Return the first test that fails with a fault and passes without, MISSED, or why that cannot be said."""
    places = places_of(fault, tree)
    if len(places) != 1:
        return f"NOT PLANTED: its text occurs {len(places)} times in fsseg, not once"
    sound = places[0].read_text(encoding="utf-8")
    places[0].write_text(sound.replace(fault.text, fault.replacement), encoding="utf-8")
    try:
        failed = _first_failure(fault, tree, arguments)
    finally:
        places[0].write_text(sound, encoding="utf-8")
    if failed is None:
        return MISSED
    passes = run_tests(tree, ["-n", "0", failed]) is None
    return failed if passes else f"NOT SAID: {failed} fails without the fault, too"


def _first_failure(fault: Fault, tree: Path, arguments: Sequence[str]) -> str | None:
    likely = [f"tests/{name}.py" for name in fault.tests if (tree / "tests" / f"{name}.py").is_file()]
    if not any(word.startswith("tests") for word in arguments) and likely:
        failed = run_tests(tree, ["-n", "0", *arguments, *likely])
        if failed is not None:
            return failed
    return run_tests(tree, arguments)


def run_tests(tree: Path, arguments: Sequence[str]) -> str | None:
    """Return the first test of a tree that fails; None if all pass, or none is selected."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "1000"}  # names of tests are not cut then
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a file of the same size and second would pass for the one before
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode in (0, 5):
        return None
    failed = _FAILED.search(done.stdout)
    if failed is None:
        raise SystemExit(f"pytest failed without a failing test:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return failed[1]


def table(rows: Sequence[tuple[Fault, str]]) -> str:
    """Return a Markdown table of the faults and what noticed them."""
    lines = ["| package | fault | noticed by |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {fault.package} | {fault.what} | {caught} |" for fault, caught in rows)])


if __name__ == "__main__":
    sys.exit(main())
