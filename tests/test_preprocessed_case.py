"""Preprocessed cases: what nnU-Net wrote is read, and nothing in their files is executed."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest

from fsseg.config.errors import FssegError
from fsseg.nnunet.preprocessed_case import read_case

IMAGE = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
LABELS = (IMAGE[:1] > 20).astype(np.int16)


class Bomb:
    """A pickle of it makes a folder when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def properties(**more: Any) -> dict[str, Any]:
    return {
        "class_locations": {1: np.argwhere(LABELS == 1), (1, 2): [], 3: np.zeros((0, 4), np.int64)},
        "spacing": (np.float64(1.5), 1.0, 1.0),
        "bbox_used_for_cropping": [[0, 3], [0, 4], [np.int64(0), 5]],
        "sitk_stuff": {"direction": (1.0,) * 9},
        **more,
    }


def write(folder: Path, content: Any = None, *, protocol: int | None = None, **meta: Any) -> None:
    blosc2.asarray(IMAGE, urlpath=str(folder / "case.b2nd"), meta=meta)
    blosc2.asarray(LABELS, urlpath=str(folder / "case_seg.b2nd"))
    content = properties() if content is None else content
    (folder / "case.pkl").write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_and_properties_are_read(tmp_path: Path, protocol: int) -> None:
    write(tmp_path, protocol=protocol)
    image, labels, found = read_case(tmp_path, "case")
    np.testing.assert_array_equal(image[:, 1:], IMAGE[:, 1:])
    np.testing.assert_array_equal(np.asarray(labels), LABELS)
    np.testing.assert_array_equal(found["class_locations"][1], np.argwhere(LABELS == 1))
    assert found["spacing"] == (1.5, 1.0, 1.0)


@pytest.mark.parametrize("unpacked", [False, True])
def test_the_older_format_is_read(tmp_path: Path, unpacked: bool) -> None:
    (tmp_path / "case.pkl").write_bytes(pickle.dumps(properties()))
    np.savez_compressed(tmp_path / "case.npz", data=IMAGE, seg=LABELS)
    if unpacked:
        np.save(tmp_path / "case.npy", IMAGE)
        np.save(tmp_path / "case_seg.npy", LABELS)
    image, labels, _ = read_case(tmp_path, "case")
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("place", ["whole", "inside"])
def test_code_in_the_pickle_of_a_case_does_not_run(tmp_path: Path, place: str) -> None:
    bomb = Bomb(tmp_path / "trap")
    write(tmp_path, bomb if place == "whole" else properties(more=[bomb]))
    with pytest.raises(FssegError, match=r"case 'case' in .* is damaged: .*case\.pkl cannot be read: .*mkdir"):
        read_case(tmp_path, "case")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("recipe", ["LazyArray", "proxy-source", "b2o"])
def test_recipes_in_the_place_of_arrays_are_not_followed(tmp_path: Path, recipe: str) -> None:
    write(tmp_path, **{recipe: {"UDF": "import os; os.mkdir('trap')", "operands": {}}})
    with pytest.raises(FssegError, match=f"a recipe to compute or fetch one \\({recipe}\\)"):
        read_case(tmp_path, "case")


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in properties().items() if name != key}


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no_array": (lambda folder: (folder / "case.b2nd").write_bytes(b"no array"), "it is no array"),
    "no_labels": (lambda folder: (folder / "case_seg.b2nd").unlink(), "case_seg.b2nd is missing"),
    "other_grid": (
        lambda folder: blosc2.asarray(LABELS[:, 1:], urlpath=str(folder / "case_seg.b2nd"), mode="w"),
        "its label map int16 (1, 2, 4, 5)",
    ),
    "text": (lambda folder: (folder / "case.pkl").write_text("hello"), "case.pkl cannot be read"),
    "list": (lambda folder: (folder / "case.pkl").write_bytes(pickle.dumps([1])), "lacks class_locations, spacing"),
    "no_spacing": (lambda folder: (folder / "case.pkl").write_bytes(pickle.dumps(without("spacing"))), "lacks spacing"),
    "outside": (
        lambda folder: (folder / "case.pkl").write_bytes(
            pickle.dumps(properties(class_locations={1: np.array([[0, 0, 9, 0]])}))
        ),
        "class_locations outside of the image",
    ),
    "no_voxels": (
        lambda folder: (folder / "case.pkl").write_bytes(pickle.dumps(properties(class_locations={1: ["a"]}))),
        "no list of voxels",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_case_is_named_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    damage, message = DAMAGED[name]
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(FssegError, match="The preprocessed case 'case' in") as refusal:
        read_case(tmp_path, "case")
    assert message in str(refusal.value)
    assert "fsseg preprocess" in str(refusal.value)
