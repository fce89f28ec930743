"""What stages return, as plain values in JSON."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from fsseg.config.base import StrictModel
from fsseg.config.results import Result, WrittenResult, plain


class Header(StrictModel):
    file: Path
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Inner:
    dsc: float
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Outer(Result):
    out: Path
    structures: dict[int, Inner]
    header: Header
    absent: str | None = None


@dataclass(frozen=True)
class Written(Outer, WrittenResult):
    pass


RESULT = Outer(Path("runs") / "a", {3: Inner(math.nan, ("x", "y"))}, Header(file=Path("b"), shape=(1, 2)))


def test_a_result_is_json_of_the_names_of_its_fields() -> None:
    assert RESULT.as_json() == {
        "out": str(Path("runs") / "a"),
        "structures": {"3": {"dsc": None, "cases": ["x", "y"]}},
        "header": {"file": "b", "shape": [1, 2]},
        "absent": None,
    }
    assert json.loads(json.dumps(RESULT.as_json(), allow_nan=False)) == RESULT.as_json()


def test_a_plan_becomes_a_result_with_the_manifest_that_was_written() -> None:
    done = Written(**vars(RESULT), manifest={"seed": 1})
    assert (done.out, done.manifest) == (RESULT.out, {"seed": 1})


@pytest.mark.parametrize("value", ["text", 1, 0.5, True, None])
def test_a_plain_value_stays(value: object) -> None:
    assert plain(value) is value
