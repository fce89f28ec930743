"""What is written for Windows and macOS, as far as Linux can show it: no module needs fcntl or resource."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from warm_process import program

from fsseg.config import host_memory, staging
from fsseg.config.errors import UsageError
from fsseg.config.run_folder import new_run_folder
from fsseg.training import memory

MIB = 2**20
IMPORTS = """
import importlib, pkgutil, sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
import fsseg
names = [module.name for module in pkgutil.walk_packages(fsseg.__path__, "fsseg.")]
names = [name for name in names if name != "fsseg.__main__"]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


class Locking:
    """Stands in for msvcrt: one process has the byte that others ask for.

    Args:
        taken: whether another process has it.
    """

    LK_NBLCK = 2

    def __init__(self, taken: bool) -> None:
        self.taken, self.asked = taken, 0

    def locking(self, _descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        self.asked += 1
        if self.taken:
            raise PermissionError(13, "Permission denied")


@pytest.mark.full
def test_every_module_is_imported_without_fcntl_and_resource() -> None:
    done = subprocess.run(program(IMPORTS), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 200


@pytest.fixture
def psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=300 * MIB, peak_wset=500 * MIB))
    machine = SimpleNamespace(total=8000 * MIB, available=1000 * MIB)
    stand_in = SimpleNamespace(Process=lambda: process, virtual_memory=lambda: machine)
    monkeypatch.setitem(sys.modules, "psutil", stand_in)


@pytest.mark.usefixtures("psutil")
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_are_asked_for_memory_by_psutil(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    linux = host_memory.peak_resident_mib()
    monkeypatch.setattr(sys, "platform", system)
    assert host_memory.installed_bytes() == 8000 * MIB
    assert memory.host_available_mib(processes=2) == 2 * 300 + 1000
    peak = host_memory.peak_resident_mib()
    assert peak == 500 if system == "win32" else peak == pytest.approx(linux / 1024, rel=0.5)  # macOS says bytes


def test_windows_locks_a_byte_and_closes_the_lock_file_before_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", Locking(taken=False))
    closed, unlink = [], Path.unlink

    def unlinked(path: Path, **options: bool) -> None:
        closed.extend(file.closed for file in markers if path.name == staging.MARKER_NAME)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", unlinked)
    with new_run_folder(tmp_path / "run") as folder:
        markers = list(staging._held.values())
        (folder / "result").touch()
    assert closed == [True]
    assert os.listdir(tmp_path / "run") == ["result"]
    assert not staging._held


def test_windows_refuses_a_folder_that_another_process_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locking = Locking(taken=True)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", locking)
    with pytest.raises(UsageError, match="Another process is making"), new_run_folder(tmp_path / "run"):
        pass
    assert locking.asked == 1


def test_where_links_are_not_allowed_nnunet_is_shown_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsseg.nnunet.preprocessed_dataset import _show

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    for name in ("symlink_to", "hardlink_to"):
        monkeypatch.setattr(Path, name, refuse)
    for name in ("symlink", "link"):
        monkeypatch.setattr(os, name, refuse)
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "labelsTr" / "a.nii.gz").write_bytes(b"labels")
    _show(tmp_path / "labelsTr", tmp_path / "view")
    _show(tmp_path / "labelsTr" / "a.nii.gz", tmp_path / "b.nii.gz")
    assert (tmp_path / "view" / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes() == b"labels"
