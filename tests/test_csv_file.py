"""Result tables: no text of theirs is run by a spreadsheet, and all are read back as they were."""

from pathlib import Path

import pytest

from fsseg.config.csv_file import read_csv, write_csv


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-x", "@x", "\tx", "'=x", "''+1", "=1,2\n3"])
def test_formulas_become_text_and_are_read_back(tmp_path: Path, text: str) -> None:
    file = tmp_path / "metrics.csv"
    write_csv(file, ["case", "dsc"], [{"case": text, "dsc": -0.5}])
    cell = file.read_text(encoding="utf-8").splitlines()[1].lstrip('"')
    assert cell.startswith("'")
    assert file.read_text(encoding="utf-8").rstrip().endswith(",-0.5")
    assert read_csv(file) == [{"case": text, "dsc": "-0.5"}]


@pytest.mark.parametrize("text", ["case_1", "'quoted'", "a=b", "", "5'"])
def test_other_texts_stay_as_they_are(tmp_path: Path, text: str) -> None:
    file = tmp_path / "metrics.csv"
    write_csv(file, ["case", "n"], [{"case": text, "n": 1}])
    assert file.read_text(encoding="utf-8") == f"case,n\n{text},1\n"
    assert read_csv(file) == [{"case": text, "n": "1"}]
