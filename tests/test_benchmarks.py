"""The benchmarks: what they write, and what their files are called."""

import csv
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))


@pytest.mark.full
def test_step_benchmark_of_a_few_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import adapt_step

    plans = REPOSITORY / "plans" / "phantom_plans.json"
    words = ["--plans", str(plans), "--patch", "16", "--batch", "1", "--pairs", "1", "--threads", "1"]
    words += ["--methods", "full", "linear_probe", "lora", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["adapt_step.py", *words])
    adapt_step.main()
    (file,) = tmp_path.glob("*.csv")
    assert file.stem == "adapt_step_phantom_plans_16_batch1_cpu_1threads_full_linear_probe_lora"
    with file.open(newline="", encoding="utf-8") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert {"full, plain", "full", "linear_probe cached", "lora", "lora, checkpointed"} <= rows.keys()
    assert float(rows["linear_probe cached"]["saved"]) > 1
    assert float(rows["lora, checkpointed"]["memory_mib"]) < float(rows["lora"]["memory_mib"])


def test_differences_from_fseft_are_paired_by_case() -> None:
    from fseft_differences import PAIRS, summary

    ways = {"fsseg": 0.8, "--protocol": 0.8, "clipped last": 0.81, "window": 0.8, "their score": 0.77}
    rows = [
        {"seed": seed, "case": case, "way": way, "structure": name, "dsc": dsc + offset + 0.01 * seed}
        for seed in (0, 1)
        for case, offset in (("A", 0.0), ("B", 0.1))
        for way, dsc in ways.items()
        for name in ("liver", "stomach")
    ]
    lines = summary(rows, [0, 1]).splitlines()[2:]
    assert [line.split("  ")[0] for line in lines] == [way for way, _ in PAIRS]
    for line, expected in zip(lines, ("+0.0100", "+0.0000", "-0.0300"), strict=True):
        assert expected in line
