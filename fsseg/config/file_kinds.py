"""What a file holds that was taken for something else, in words for a message; nothing of it is executed."""

import pickletools
import zipfile
from pathlib import Path

from fsseg.config.errors import first_of

_HEAD = 512
_SHOWN_NAMES = 3
_SHOWN_TEXT = 40
_SHOWN_LENGTH = 60
_MOST_PICKLE = 64 * 2**20  # bytes that are looked through
# Where a file has which bytes, and what it is then.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, whose file was not fetched (git lfs pull)"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (0, b"BZh", "compressed by bzip2: unpack it first"),
    (0, b"\xfd7zXZ\0", "compressed by xz: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (0, b"Rar!", "a RAR archive: unpack it first"),
    (257, b"ustar", "a tar archive, or weights of a very old torch: unpack it, or save it again with a newer torch"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras and MATLAB write"),
    (0, b"\x93NUMPY", "an array of numpy"),
    (0, b"GGUF", "a GGUF file of language models"),
    (8, b'{"', "a safetensors file"),
    (344, b"n+1\0", "a NIfTI image"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
)
_WEB_PAGE = (b"<!doctype", b"<html", b"<?xml")


def kind_of_file(path: Path) -> str:
    """Return in a few words what a file is, by its first bytes; `path` is a regular file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "an empty file"
    if head.lstrip().lower().startswith(_WEB_PAGE):
        return "a web page: the download failed, or asked for a login"
    known = next((what for place, magic, what in _SIGNATURES if head[place:].startswith(magic)), "")
    if known:
        return known
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head[0] == 0x80 and head[1] <= 5:  # how pickles begin since protocol 2
        return "a pickle" + _holding(names_in_pickle(path.read_bytes()[:_MOST_PICKLE]))
    return _kind_of_text(head)


def is_of_program(name: str) -> bool:
    """Return whether an entry of a torch archive is one that only TorchScript programs have."""
    return name.endswith("/constants.pkl")


def names_in_pickle(content: bytes) -> list[str]:
    """Return the classes and functions that a pickle names, in their order, without executing it."""
    names: dict[str, None] = {}
    texts: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name in ("GLOBAL", "INST"):
                names[".".join(str(argument).split(" ", 1))] = None
            elif operation.name == "STACK_GLOBAL":
                names[".".join(texts[-2:])] = None
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
    except Exception:  # noqa: BLE001 - a damaged pickle names what came before the damage
        pass
    return [name[:_SHOWN_LENGTH] for name in names]


def pickle_protocol(content: bytes) -> int:
    """Return the protocol of a pickle, as it says itself."""
    return content[1] if content[:1] == b"\x80" and len(content) > 1 else 0


def _holding(names: list[str]) -> str:
    return f" of {first_of(names, _SHOWN_NAMES)}" if names else " of plain values"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a zip archive, as torch writes, whose end is missing or damaged"
    if any(map(is_of_program, names)):
        return "a TorchScript program, not weights: save its state_dict() instead"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays"
    return f"a zip archive of {first_of([name[:_SHOWN_LENGTH] for name in names], _SHOWN_NAMES) or 'nothing'}"


def _kind_of_text(head: bytes) -> str:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else ""  # cut within a letter
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"text that starts with {text.split(chr(10))[0][:_SHOWN_TEXT]!r}"
    return "of no known format"
