"""The list of planted faults: each can be planted, and every package has one."""

import sys

import pytest
from conftest import REPOSITORY

sys.path.append(str(REPOSITORY / "scripts"))

from faults import FAULTS, Fault
from planted_faults import noticed_by, package_of, places_of, sound, table

_NAMES_ONLY = {"nnunet_trainers"}  # what nnU-Net finds there is defined elsewhere


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    places = [str(place.relative_to(REPOSITORY)) for place in places_of(fault, REPOSITORY)]
    assert len(places) == 1, f"the text of {fault.name} is in {places}: change it in scripts/faults.py with the code"
    assert fault.text != fault.replacement


@pytest.mark.full  # modules may move
def test_every_package_has_a_fault() -> None:
    packages = {file.parent.name for file in (REPOSITORY / "fsseg").glob("*/__init__.py")}
    without = packages - {package_of(fault, REPOSITORY) for fault in FAULTS} - _NAMES_ONLY
    assert not without, f"scripts/faults.py has no fault for {sorted(without)}: add one that a quick test notices"


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_fault_that_cannot_be_planted_says_so(tmp_path) -> None:
    (tmp_path / "fsseg").mkdir()
    answer = noticed_by(FAULTS[0], tmp_path, [])
    assert answer == "NOT PLANTED: its text occurs 0 times in fsseg, not once"
    assert answer in table([(FAULTS[0], answer)], tmp_path)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("from fsseg.sum import add\n\ndef test_it():\n    assert add(1, 2) == 3\n", "tests/test_sum.py::test_it"),
        ("def test_it():\n    pass\n", "MISSED"),
        ("def test_it():\n    assert False\n", "NOT SAID: tests/test_sum.py::test_it fails anyway"),
    ],
    ids=["noticed", "missed", "fails anyway"],
)
def test_the_first_test_that_fails_is_found(tmp_path, body: str, expected: str) -> None:
    for folder in ("fsseg", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "fsseg" / "__init__.py").touch()
    module = tmp_path / "fsseg" / "sum.py"
    module.write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "tests" / "test_sum.py").write_text(body)
    fault = Fault("minus", "a + b", "a - b", "a sum is a difference", ())
    assert sound([(fault, noticed_by(fault, tmp_path, []))], tmp_path) == [(fault, expected)]
    assert "a + b" in module.read_text()
