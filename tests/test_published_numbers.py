"""Numbers in README and on the page of results are those of benchmarks/results, which scripts wrote."""

import re

from conftest import REPOSITORY
from documents import README, read, section

RESULTS = REPOSITORY / "benchmarks" / "results"
MEAN_AND_SPREAD = r"\d\.\d{3} ± \d\.\d{3}"
DIFFERENCE = r"[+-]\d\.\d{3} \[[+-]\d\.\d{3}, [+-]\d\.\d{3}\]"


def test_numbers_of_the_readme() -> None:
    numbers = re.findall(MEAN_AND_SPREAD, section(README, "Results"))
    assert len(numbers) == 3 * 4
    assert set(numbers) <= set(re.findall(MEAN_AND_SPREAD, read(RESULTS / "head_neck_full.md")))


def test_numbers_of_the_page_of_results() -> None:
    either = f"{MEAN_AND_SPREAD}|{DIFFERENCE}"
    files = [*RESULTS.glob("head_neck_*.md"), *RESULTS.glob("table_*/table.md")]
    written = {number for file in files for number in re.findall(either, read(file))}
    shown = re.findall(either, read(REPOSITORY / "docs" / "results.md"))
    assert len(shown) > 200
    assert set(shown) <= written
