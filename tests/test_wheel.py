"""A wheel, made from a source distribution and installed, works outside of the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY

from fsseg.config.shipped_files import PLANS, SPECS, TABLES

PHANTOMS = """
from pathlib import Path
import fsseg
from fsseg.demo.phantom_datasets import write_phantom_datasets
write_phantom_datasets(Path("nnUNet_raw"), seed=0, cases_per_source=1, target_cases=1)
print(Path(fsseg.__file__).parent)
"""
SDIST = "import sys; from setuptools.build_meta import build_sdist; print(build_sdist(sys.argv[1]))"


def run(*words: object, cwd: Path, code: int = 0, **environment: object) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "nnUNet"))}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=kept | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Build a source distribution of a copy of the repository, and a wheel from that."""
    copy = tmp_path / "copy"
    for name in ("fsseg", *(kind.folder for kind in (SPECS, PLANS, TABLES))):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / name, copy / name)
    sdist = run(sys.executable, "-c", SDIST, tmp_path, cwd=copy).stdout.splitlines()[-1]
    words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, tmp_path / sdist)
    run(sys.executable, *words, cwd=tmp_path)
    return next(tmp_path.glob("*.whl"))


@pytest.fixture
def programs(wheel: Path, tmp_path: Path) -> Path:
    """Install the wheel into an environment that has everything else from the present one; return its programs."""
    folder = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
    places = {"base": str(folder), "platbase": str(folder)}
    python = Path(sysconfig.get_path("scripts", vars=places), "python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    packages = sysconfig.get_path("purelib", vars=places)
    Path(packages, "present.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python.parent


@pytest.mark.full
def test_an_installed_wheel_does_the_first_stages_from_an_empty_folder(
    wheel: Path, programs: Path, tmp_path: Path
) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if not name.startswith("fsseg")]
    assets = {file.relative_to(REPOSITORY).as_posix() for file in (REPOSITORY / "fsseg/reporting/assets").iterdir()}
    assert assets <= set(names)
    away = tmp_path / "away"
    away.mkdir()
    fsseg = programs / "fsseg"
    installed = Path(run(programs / "python", "-c", PHANTOMS, cwd=away).stdout.splitlines()[-1])
    assert installed.is_relative_to(programs.parent)
    specs = run(fsseg, "assemble", "--list", cwd=away).stdout.splitlines()
    assert len(specs) == len(list((REPOSITORY / "dataset_specs").glob("*.yaml")))
    assert "portal venous CT" in next(line for line in specs if line.startswith("btcv "))
    tables = run(fsseg, "table", "--list", cwd=away).stdout.splitlines()
    assert len(tables) == len(list((REPOSITORY / "scripts/tables").glob("*.yaml")))
    lists = {file.name for file in (REPOSITORY / "scripts/tables/lists").glob("*.yaml")}
    assert lists <= {Path(name).name for name in names if "tables/lists/" in name}
    assert "BTCV: spec only" in run(fsseg, "assemble", "btcv", "--check", cwd=away).stdout
    assert "Did you mean 'btcv'" in run(fsseg, "assemble", "btvc", "--check", cwd=away, code=2).stderr
    raw, preprocessed = away / "nnUNet_raw", away / "nnUNet_preprocessed"
    folders = {"nnUNet_raw": raw, "nnUNet_preprocessed": preprocessed}
    sources = [file for file in raw.glob("*.yaml") if "Target" not in file.name]
    words = (*sources, "--root", raw, "--id", 901, "--name", "Phantoms")
    assert "3 cases" in run(fsseg, "assemble", *words, cwd=away, **folders).stdout
    run(fsseg, "preprocess", "--dataset", 901, "--plans", "swinunetr_fseft", cwd=away, **folders)
    assert len(list(preprocessed.glob("Dataset901_Phantoms/swinunetr_fseft*/*.pkl"))) == 3
