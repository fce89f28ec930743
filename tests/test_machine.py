"""What the manifest says of machine and code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsseg.config.machine import code_version, cpu_model
from fsseg.config.manifest import Manifest


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package in a checkout."""
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(package.parent, "init", "-q")
    git(package.parent, "add", "-A")
    git(package.parent, "commit", "-q", "-m", "first")
    return package


@pytest.fixture(autouse=True)
def not_remembered() -> None:
    code_version.cache_clear()


def test_a_checkout_has_a_commit_and_says_whether_it_is_dirty(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert code_version(package) == {"commit": commit, "dirty": False}
    (package.parent / "notes.txt").touch()  # beside the package: no code
    code_version.cache_clear()
    assert code_version(package) == {"commit": commit, "dirty": False}
    (package / "new.py").touch()
    code_version.cache_clear()
    assert code_version(package) == {"commit": commit, "dirty": True}


def test_a_package_that_a_checkout_surrounds_has_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = package.parent / "venv" / "site-packages" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert code_version(installed) is None
    untracked = package.parent / "other"
    untracked.mkdir()
    (untracked / "__init__.py").touch()
    assert code_version(untracked) is None
    monkeypatch.setenv("PATH", "")
    code_version.cache_clear()
    assert code_version(package) is None  # no git here


def test_a_manifest_names_host_cpu_and_code(tmp_path: Path) -> None:
    manifest = Manifest("adapt", {}).write(tmp_path)
    machine = manifest["machine"]
    assert machine["host"]
    assert machine["cpu"] == cpu_model() != ""
    assert 1 <= machine["cores_allowed"] <= machine["cores"] == os.cpu_count()
    assert "code" in manifest


def test_a_manifest_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom fsseg.config.manifest import Manifest\n"
        f"Manifest('assemble', {{}}).write(Path({str(tmp_path)!r}))\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    machine = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["machine"]
    assert (machine["threads"], machine["cuda_devices"]) == (None, [])
