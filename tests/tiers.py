"""Which values of a parametrized test are for every run, and which are in the full tier."""

from collections.abc import Iterable
from typing import Any

import pytest


def rest_full(values: Iterable[Any], *every_run: Any) -> list[Any]:
    """Return the values for `pytest.mark.parametrize`; those not named here run with `-m full` only."""
    values = list(values)
    assert all(value in values for value in every_run), "a value for every run is one of all"
    return [value if value in every_run else as_full(value) for value in values]


def as_full(value: Any) -> Any:
    """Return a value, or a tuple of several parameters, that runs with `-m full` only."""
    several = value if type(value) is tuple else (value,)
    return pytest.param(*several, marks=pytest.mark.full)
