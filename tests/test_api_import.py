"""`import fsseg` is quick and imports no torch; what it offers is there all the same."""

import subprocess
import sys

import pytest

import fsseg


def python(code: str) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_fsseg_imports_no_torch() -> None:
    heavy = "[name for name in ('torch', 'numpy', 'nnunetv2', 'monai', 'pydantic') if name in sys.modules]"
    assert python(f"import sys, fsseg; dir(fsseg); print({heavy})") == "[]"


def test_every_name_of_the_table_is_offered_and_imports() -> None:
    assert set(fsseg._API) | {"__version__"} == set(fsseg.__all__)
    assert set(fsseg.__all__) <= set(dir(fsseg))
    for name in fsseg.__all__:
        assert getattr(fsseg, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'adapters'"):
        fsseg.adapters  # noqa: B018
