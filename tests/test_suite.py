"""What holds for the tests themselves."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_test_imports_another() -> None:
    """A file of tests holds tests; what several files use has a module of its own, and can be found by its name."""
    found = [
        f"{path.name}: {name}" for path in sorted(TESTS.glob("*.py")) for name in imports_of(path) if is_of_tests(name)
    ]
    assert not found


def imports_of(path: Path) -> list[str]:
    statements = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = []
    for statement in statements:
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            names.append(statement.module or "")
    return names


def is_of_tests(module: str) -> bool:
    file = module.removeprefix("tests.")
    return file.startswith("test_") and (TESTS / f"{file}.py").is_file()
