"""The notebook of docs runs from its first cell to its last, in a folder of its own and without a kernel."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY
from warm_process import program, write_scripts

NOTEBOOK = REPOSITORY / "docs" / "first_steps.ipynb"
# A line `!command {name}` runs a command with the value of a name, as in a notebook, but stops at its failure.
SHELL = """
import subprocess as _subprocess


def _shell(line):
    _subprocess.run(line, shell=True, check=True)
"""


def plain_python(cell: str) -> str:
    """Return a code cell with its shell lines as calls of `_shell`."""
    return re.sub(r"^!(.*)$", lambda line: f"_shell(f{line[1]!r})", cell, flags=re.MULTILINE)


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_code_cells_are_python() -> None:
    for cell in code_cells():
        compile(plain_python(cell), NOTEBOOK.name, "exec")


@pytest.mark.full
def test_notebook_runs(tmp_path: Path) -> None:
    path = os.pathsep.join([str(write_scripts(tmp_path / "scripts")), os.environ["PATH"]])
    done = subprocess.run(
        program("\n".join([SHELL, *map(plain_python, code_cells())])),
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "MPLBACKEND": "Agg"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "stomach" in done.stdout
    assert (tmp_path / "runs" / "stomach" / "adapter.safetensors").is_file()
