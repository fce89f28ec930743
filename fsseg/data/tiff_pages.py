"""Whether all slices of a TIFF file are there: ITK reads those that it finds, and takes them for the image."""

import struct
from pathlib import Path
from typing import IO

_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_BIG = 43  # marks files with 64-bit offsets
_MOST_PAGES = 1 << 20


def require_all_pages(path: Path) -> None:
    """Follow the chain of a TIFF file's directories, one a slice, to its end; raise `EOFError` if it is broken."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order = _BYTE_ORDERS.get(file.read(2))
        if order is None:
            raise EOFError("it does not start as a TIFF file does")
        is_big = _number(file, order + "H") == _BIG
        count, entry_bytes, offset = ("Q", 20, "Q") if is_big else ("H", 12, "I")
        file.seek(8 if is_big else 4)
        place = _number(file, order + offset)
        for page in range(_MOST_PAGES):
            if place == 0:
                return
            if place >= size:
                raise EOFError(f"it ends in slice {page + 1}, and more follow")
            file.seek(place)
            file.seek(_number(file, order + count) * entry_bytes, 1)
            place = _number(file, order + offset)
    raise EOFError("its slices have no end")


def _number(file: IO[bytes], form: str) -> int:
    content = file.read(struct.calcsize(form))
    if len(content) < struct.calcsize(form):
        raise EOFError("it ends in a slice, and more follow")
    return int(struct.unpack(form, content)[0])
