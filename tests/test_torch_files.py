"""Files of torch: what is damaged, hostile or something else is refused in a line, and nothing is executed."""

import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fsseg.config.errors import FssegError
from fsseg.models.finite import is_finite, not_finite
from fsseg.nnunet.checkpoint_file import WEIGHTS_HASH_KEY, require_intact_weights, save_checkpoint
from fsseg.training.torch_file import read_torch_file, write_torch_file


def weights() -> dict[str, Any]:
    return {"layer.weight": torch.arange(600.0).reshape(2, 300), "layer.bias": torch.zeros(2)}


def repacked(path: Path, change: Callable[[str, bytes], bytes] = lambda _, content: content, **how: Any) -> None:
    """Write the archive of a file of torch again, entry by entry, with checksums of the new entries."""
    torch.save(weights(), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def overlapping(path: Path) -> None:
    """Let many names stand for the bytes of one entry, as in archives that unpack to far more than they are."""
    repacked(path)
    with zipfile.ZipFile(path, "a") as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(50):
            copy = zipfile.ZipInfo(f"archive/data/{100 + number}")
            for field in ("file_size", "compress_size", "CRC", "header_offset"):
                setattr(copy, field, getattr(entry, field))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True  # type: ignore[attr-defined]


def flipped(path: Path) -> None:
    torch.save(weights(), path)
    content = bytearray(path.read_bytes())
    content[content.index(weights()["layer.weight"].numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    torch.save(weights(), path)
    path.write_bytes(path.read_bytes()[:-200])


def program(path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def tarball(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__)


def arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def executed(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": os.getcwd}, protocol=2))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("hello\nworld"), "is no checkpoint: it is text that starts with 'hello'"),
    "empty": (Path.touch, "is no checkpoint: it is an empty file"),
    "web_page": (lambda path: path.write_text("<!DOCTYPE html><html>"), "it is a web page"),
    "lfs_pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com\n"),
        "a pointer of Git LFS",
    ),
    "noise": (lambda path: path.write_bytes(bytes(range(128, 256))), "it is of no known format"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(90)), "compressed by gzip: unpack it first"),
    "tar": (tarball, "it is a tar archive"),
    "arrays": (arrays, "it is an archive of numpy arrays"),
    "program": (program, "it is a TorchScript program"),
    "pickle": (executed, "it is a pickle of posix.getcwd"),
    "module": (lambda path: torch.save(nn.Linear(2, 2), path), "it holds an object of torch.nn.modules.linear.Linear"),
    "protocol": (lambda path: torch.save(weights(), path, pickle_protocol=4), "it was saved with pickle_protocol=4"),
    "old_function": (
        lambda path: torch.save({"a": os.getcwd}, path, _use_new_zipfile_serialization=False),
        "it holds an object of posix.getcwd",
    ),
    "tensor": (lambda path: torch.save(torch.zeros(2), path), "it holds a Tensor, not a mapping"),
    "folder": (Path.mkdir, "it is no regular file"),
    "pipe": (os.mkfifo, "it is no regular file"),
    "cut": (cut, "it is damaged: its archive cannot be read"),
    "flipped_bit": (flipped, "it is damaged: its archive cannot be read (Bad CRC-32"),
    "compressed": (lambda path: repacked(path, compression=zipfile.ZIP_DEFLATED), "torch never compresses"),
    "overlapping": (overlapping, "bytes would unpack to"),
    "record_too_short": (
        lambda path: repacked(path, lambda name, content: content[:100] if name.endswith("data/0") else content),
        "cannot be loaded as a checkpoint",
    ),
    "expanded": (
        lambda path: torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path),
        "stand for tensors of 4,000,000,000,000 bytes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sound_checkpoint_is_refused_with_what_it_is(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    make(tmp_path / "file.pth")
    with pytest.raises(FssegError) as refusal:
        read_torch_file(tmp_path / "file.pth")
    text = str(refusal.value)
    assert message in text
    assert str(tmp_path / "file.pth") in text
    assert "weights_only" not in text, "torch's own message says how to execute it"
    assert "\x1b" not in text
    assert len(text.splitlines()) <= 2


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 3}])
def test_sound_files_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.save(weights(), tmp_path / "file.pth", **options)
    found = read_torch_file(tmp_path / "file.pth")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights().items())


def test_a_file_without_checksums_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), tmp_path / "file.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_torch_file(tmp_path / "file.pth").keys() == weights().keys()
    assert "was saved without checksums" in caplog.text


def test_containers_that_hold_themselves_are_looked_through_once(tmp_path: Path) -> None:
    content: dict[str, Any] = {"weights": weights()}
    content["self"] = [content]
    write_torch_file(tmp_path / "file.pth", content)
    assert read_torch_file(tmp_path / "file.pth").keys() == {"weights", "self"}


# The hash of weights


def test_checkpoints_state_the_hash_of_their_weights(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pth"
    save_checkpoint(file, weights(), "3d_fullres", None)
    content = read_torch_file(file)
    require_intact_weights(content, file)
    content["network_weights"]["layer.bias"][0] = 1e-6
    with pytest.raises(FssegError, match="their hash differs"):
        require_intact_weights(content, file)
    del content[WEIGHTS_HASH_KEY]  # as a stock checkpoint
    require_intact_weights(content, file)
    content["network_weights"]["layer.bias"][0] = torch.nan
    with pytest.raises(FssegError, match=r"holds NaN or infinite values in layer\.bias"):
        require_intact_weights(content, file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.complex64])
def test_finite_values_are_told_from_others(dtype: torch.dtype) -> None:
    tensor = torch.full((300,), 400.0).to(dtype)
    assert is_finite(tensor), "a sum that overflows is no damage"
    tensor[7] = torch.nan
    assert not is_finite(tensor)
    assert not_finite({"a": torch.zeros(2), "b": tensor, "alias of b": tensor, "c": torch.tensor(3)}) == ["b"]
