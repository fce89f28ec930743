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
            rows.append((fault, noticed_by(fault, tree, shlex.split(arguments.tests))))
            sys.stdout.write(f"{fault.name:<24} {rows[-1][1]}\n")
            sys.stdout.flush()
        rows = sound(rows, tree)
        sys.stdout.write("\n" + table(rows, tree) + "\n")
    return int(any(not _is_test(answer) for _, answer in rows))


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


def noticed_by(fault: Fault, tree: Path, arguments: Sequence[str]) -> str:
    """Return the first test that fails with a fault, MISSED, or why that cannot be said."""
    places = places_of(fault, tree)
    if len(places) != 1:
        return f"NOT PLANTED: its text occurs {len(places)} times in fsseg, not once"
    before = places[0].read_text(encoding="utf-8")
    places[0].write_text(before.replace(fault.text, fault.replacement), encoding="utf-8")
    try:
        return _first_failure(fault, tree, arguments)
    finally:
        places[0].write_text(before, encoding="utf-8")


def _first_failure(fault: Fault, tree: Path, arguments: Sequence[str]) -> str:
    likely = [node for name in fault.tests if (node := _node(name, tree))]
    failed = []
    if likely and not any(word.startswith("tests") for word in arguments):
        failed = failing_tests(tree, ["-x", "-n", "0", *arguments, *likely])
    failed = failed or failing_tests(tree, ["-x", *arguments])
    return failed[0] if failed else MISSED


def _node(name: str, tree: Path) -> str:
    """Return module or module::function as pytest wants it; nothing where a revision lacks it."""
    module, _, function = name.partition("::")
    file = tree / "tests" / f"{module}.py"
    if not file.is_file() or f"def {function}" not in file.read_text(encoding="utf-8"):
        return ""
    return f"tests/{module}.py" + (f"::{function}" if function else "")


def sound(rows: Sequence[tuple[Fault, str]], tree: Path) -> list[tuple[Fault, str]]:
    """Return the rows, with a word on every test that fails without a fault, too."""
    tests = sorted({answer for _, answer in rows if _is_test(answer)})
    broken = failing_tests(tree, ["-n", "0", *tests]) if tests else []
    return [(fault, f"NOT SAID: {answer} fails anyway" if answer in broken else answer) for fault, answer in rows]


def failing_tests(tree: Path, arguments: Sequence[str]) -> list[str]:
    """Run tests of a tree; return those that fail, none also where none is selected."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "1000"}  # names of tests are not cut then
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a file of the same size and second would pass for the one before
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    failed = [match[1] for match in _FAILED.finditer(done.stdout)]
    if done.returncode not in (0, 5) and not failed:
        raise SystemExit(f"pytest failed without a failing test:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return failed


def _is_test(answer: str) -> bool:
    return answer.startswith("tests/")


def package_of(fault: Fault, tree: Path) -> str:
    """Return the package that a fault is in, such as "methods"; nothing where it is in none."""
    places = places_of(fault, tree)
    return places[0].relative_to(tree / "fsseg").parts[0] if places else ""


def table(rows: Sequence[tuple[Fault, str]], tree: Path) -> str:
    """Return a Markdown table of the faults and what noticed them."""
    lines = ["| package | fault | noticed by |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {package_of(each, tree)} | {each.what} | {answer} |" for each, answer in rows)])


if __name__ == "__main__":
    sys.exit(main())
