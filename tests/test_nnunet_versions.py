"""The lowest and the highest supported nnU-Net, each in an environment of its own."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement

DRIVEN = ("test_nnunet_commands.py", "test_stock_nnunet.py")


def requirement() -> Requirement:
    """Return what pyproject.toml asks of nnU-Net; tomllib is younger than the oldest supported Python."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.strip().startswith('"nnunetv2'))
    return Requirement(line.split('"')[1])


def wanted(which: str) -> str:
    """Return what to install: the lower bound itself, or the newest release in the range."""
    range_ = requirement()
    lower = next(bound.version for bound in range_.specifier if bound.operator == ">=")
    return f"nnunetv2=={lower}" if which == "lowest" else str(range_)


@pytest.fixture(params=["lowest", "highest"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An environment with one version of nnU-Net, and everything else from the present one."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    present = sysconfig.get_path("purelib")
    Path(packages, "present.pth").write_text(f"import site; site.addsitedir({present!r})\n", encoding="utf-8")
    # Without --ignore-installed a version that the present environment has would get no commands of its own.
    install = [python, "-m", "pip", "install", "--quiet", "--ignore-installed", "--no-deps", wanted(request.param)]
    done = subprocess.run(install, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    check = subprocess.run([python, "-m", "pip", "check"], capture_output=True, encoding="utf-8", check=False)
    assert "nnunetv2" not in check.stdout, check.stdout
    return python


@pytest.mark.slow
def test_the_tests_that_drive_nnunet_pass(environment: Path) -> None:
    version = "import importlib.metadata as m; print(m.version('nnunetv2'))"
    found = subprocess.run([environment, "-c", version], capture_output=True, encoding="utf-8", check=True).stdout
    assert requirement().specifier.contains(found.strip())
    files = [Path(__file__).with_name(name) for name in DRIVEN]
    done = subprocess.run(
        [environment, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *files],
        cwd=REPOSITORY,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_range_has_both_ends() -> None:
    operators = {bound.operator for bound in requirement().specifier}
    assert operators == {">=", "<"}
