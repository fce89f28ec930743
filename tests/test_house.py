"""What holds in every file of fsseg: what `stages/` is for, and how large functions are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsseg

PACKAGE = Path(fsseg.__file__).parent
STAGES = sorted(path for path in (PACKAGE / "stages").glob("*.py") if path.name != "__init__.py")
LARGER = {"models/swin_unetr.py __init__": "it takes what plans say of a network, by name"}  # what may be, and why
MOST_LINES, MOST_PARAMETERS, MOST_LINES_OF_A_STAGE = 50, 7, 200
CALLERS = ("cli", "experiments", "stages", "api.py")  # the command line, tables, other stages and the Python API
# Public names that a stage's module may define: its function, what it takes and what it gives.
FUNCTION = re.compile(r"(run|plan)_[a-z_]+")
TYPE = re.compile(r"\w+(Config|Plan|Result)")
CONSTANT = re.compile("[A-Z_]+")
LOGGERS = ("log", "logger")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, Function]]:
    for path, module in parsed():
        for node in ast.walk(module):
            if isinstance(node, Function):
                yield f"{path.relative_to(PACKAGE).as_posix()} {node.name}", node


def parameters(function: Function) -> int:
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_functions_are_short_and_take_few_parameters() -> None:
    large = {
        name
        for name, function in functions()
        if (function.end_lineno or 0) - function.lineno + 1 > MOST_LINES or parameters(function) > MOST_PARAMETERS
    }
    assert not large - LARGER.keys(), f"over {MOST_LINES} lines or {MOST_PARAMETERS} parameters"
    assert not LARGER.keys() - large, "no longer larger: take them off the list"


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_defines_its_function_what_it_takes_and_what_it_gives(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    others = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            names, allowed = [node.name], TYPE
        elif isinstance(node, Function):
            names, allowed = [node.name], FUNCTION
        elif isinstance(node, ast.Assign):
            names, allowed = [target.id for target in node.targets if isinstance(target, ast.Name)], CONSTANT
        else:
            continue
        others += [
            name for name in names if not name.startswith("_") and name not in LOGGERS and not allowed.fullmatch(name)
        ]
    assert not others, f"{others} belong into another package"
    assert f"def run_{path.stem}(" in text or f"def run_{path.stem.partition('_')[0]}(" in text
    assert len(text.splitlines()) <= MOST_LINES_OF_A_STAGE
    assert "dict[str, Any]" not in text, "results of stages are typed"


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_says_what_it_refuses_and_gives_an_example(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, Function) and node.name.startswith("run_"):
            docstring = ast.get_docstring(node) or ""
            assert "Raises:" in docstring
            assert "Example:" in docstring


def test_stages_are_run_by_the_command_line_the_api_tables_and_each_other() -> None:
    others = [
        str(path.relative_to(PACKAGE))
        for path, module in parsed()
        if path.relative_to(PACKAGE).parts[0] not in CALLERS
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fsseg.stages")
    ]
    assert not others
