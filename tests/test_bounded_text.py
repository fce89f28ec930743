"""JSON and YAML of strangers: what would take hours, gigabytes or a traceback is refused in a line."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from fsseg.cli.options import parse_set
from fsseg.config import bounded_text
from fsseg.config.base import StrictModel, load_yaml, validated
from fsseg.config.bounded_text import parse_json, parse_yaml
from fsseg.config.errors import FssegError, UsageError, shown, unknown_name
from fsseg.config.json_files import read_json
from fsseg.config.recipes import Recipe
from fsseg.data.spec_loading import load_spec

LEVELS = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))
BOMB = f"a0: &a0 [lol, lol]\n{LEVELS}\nknown_issues: *a9\n"
MERGES = "a0: &a0 {x: 1}\n" + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9))
DEEP = 1500
BAD_YAML = {
    "aliases": (BOMB, "more than 50,000 entries, aliases expanded"),
    "merges": (MERGES, "more than 50,000 entries, aliases expanded"),
    "recursive": ("a: &a [*a]", "stands inside what it stands for"),
    "deep_flow": ("a: " + "[" * DEEP + "]" * DEEP, "more than 64 deep"),
    "deep_open": ("[" * 20_000, "more than 64 deep"),
    "deep_block": ("- " * DEEP + "x", "more than 64 deep"),
    "no_int": ("a: !!int x", "is not valid YAML"),
    "no_float": ("a: !!float ''", "is not valid YAML"),
    "no_bool": ("a: !!bool x", "is not valid YAML"),
    "no_day": ("a: 2001-02-99", "is not valid YAML"),
    "list_as_key": ("? [a]\n: b", "is not valid YAML"),
    "python": ("a: !!python/object/apply:os.system [ls]", "is not valid YAML"),
    "huge_number": (f"a: {'9' * 5000}", "is not valid YAML"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_yaml_is_bounded_before_it_is_expanded(tmp_path: Path, name: str) -> None:
    text, message = BAD_YAML[name]
    start = time.monotonic()
    (tmp_path / "spec.yaml").write_text(text)
    for read in (load_yaml, load_spec):
        with pytest.raises(UsageError, match=message) as raised:
            read(tmp_path / "spec.yaml")
        assert len(str(raised.value)) < 1000
    with pytest.raises(UsageError, match=message):
        parse_set([f"key={text}"])
    assert time.monotonic() - start < 20


def test_anchors_of_honest_files_are_read() -> None:
    text = "a: &names [liver, spleen]\nb: *names\nc: &more {x: 1}\nd: {<<: *more, y: *names}"
    content = parse_yaml(text, "here", UsageError)
    assert content["b"] == content["d"]["y"] == ["liver", "spleen"]
    assert content["d"]["x"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * DEEP + "]" * DEEP, "more than 64 deep"),
        ("[" * 100_000, "more than 64 deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "more than 64 deep"),
        ('{"x": NaN}', "NaN is no number of JSON"),
        ('{"x": 1e999}', "1e999 is no number of JSON"),
        ("{" + '"x": ' + "9" * 5000 + "}", "is not valid JSON"),
        ("[" + "[]," * 40 + "[]]", "more than 40 entries"),
    ],
)
def test_json_is_bounded(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "40" in message:
        monkeypatch.setitem(bounded_text._MOST_ENTRIES, "JSON", 40)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(FssegError, match=message):
        read_json(tmp_path / "dataset.json")


def test_json_may_be_as_deep_as_honest_files() -> None:
    assert parse_json("[" * 60 + "]" * 60, "here")


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    for name, read, size in (("dataset.json", read_json, 2**30), ("spec.yaml", load_yaml, 2**23)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)  # sparse: takes no space
        with pytest.raises(FssegError, match=r"is not read: (1,024|8) MiB"):
            read(tmp_path / name)


def test_what_is_no_regular_file_is_called_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plans.json")  # which would be waited for
    for path in (tmp_path / "plans.json", tmp_path):
        with pytest.raises(FssegError, match="it is no regular file"):
            read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json")


def test_messages_are_no_longer_than_what_can_be_read() -> None:
    huge: list[Any] = ["x" * 10**6, ["x"] * 10**6, {str(i): "y" * 99 for i in range(10**5)}, [[["z" * 999] * 99] * 99]]
    for value in huge:
        assert len(shown(value)) < 300
        with pytest.raises(UsageError) as raised:
            validated(Recipe, {"max_steps": value, "activation": value}, "the recipe")
        assert len(str(raised.value)) < 1500
    assert shown("liver") == "'liver'"
    assert shown([1, {"a": None}]) == "[1, {'a': None}]"
    assert len(str(unknown_name("case", "x" * 10**6, ["a", "b"]))) < 1000
    assert max(map(len, str(FssegError("a\n" + "b" * 10**6)).splitlines())) < 5000


def test_thousands_of_errors_are_counted() -> None:
    class Numbers(StrictModel):
        values: tuple[int, ...]

    with pytest.raises(UsageError, match=r"999 errors in here:(.|\n)*\.\.\. and 949 more"):
        validated(Numbers, {"values": ["x"] * 999}, "here")


@pytest.mark.parametrize("step", [1e-4, 0.0, 1.5])
def test_a_step_of_the_sliding_window_that_never_ends_is_refused(step: float) -> None:
    with pytest.raises(UsageError, match="tile_step_size"):
        validated(Recipe, {"tile_step_size": step}, "the recipe")


def test_the_json_of_many_cases_is_read(tmp_path: Path) -> None:
    cases = {f"case_{i:05d}": {"source": "A", "annotated": ["liver", "spleen"]} for i in range(5000)}
    (tmp_path / "structures.json").write_text(json.dumps(cases, indent=2))
    assert len(read_json(tmp_path / "structures.json")) == 5000
