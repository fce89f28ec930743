"""The scripts that make the published tables: their tables from made-up scores, and what their files are called."""

import csv
import json
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

sys.path += [str(REPOSITORY / "scripts"), str(REPOSITORY / "benchmarks")]

KNOWN, NOVEL = ("cord", "mandible"), ("larynx",)


def write_scores(file: Path, scores: dict[str, dict[str, float]]) -> Path:
    """Write case -> structure -> DSC as `fsseg evaluate` does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "structure", "dsc", "nsd", "hd95_mm"])
        writer.writerows([case, name, dsc, dsc, 1.0] for case, row in scores.items() for name, dsc in row.items())
    return file


@dataclass
class Encoder:
    """What the tables ask of a pretraining."""

    label: str
    folder: Path
    steps: int = 10

    @property
    def held_out_metrics(self) -> Path:
        return self.folder / "held_out.csv"

    @property
    def zero_shot_metrics(self) -> Path:
        return self.folder / "zero_shot.csv"

    def adapted_metrics(self, seed: int) -> Path:
        return self.folder / f"seed{seed}.csv"


def encoder(folder: Path, label: str, names: tuple[str, ...], held_out: tuple[str, ...], dsc: float) -> Encoder:
    made = Encoder(label, folder / label)
    annotated = {"A": KNOWN[:1], "B": KNOWN[:1], "C": KNOWN, "D": KNOWN}
    write_scores(made.held_out_metrics, {c: {n: dsc for n in annotated[c] if n in names} for c in held_out})
    write_scores(made.zero_shot_metrics, {case: dict.fromkeys(names, dsc) for case in ("P", "Q")})
    for seed in range(2):
        scores = {case: dict.fromkeys((*KNOWN, *NOVEL), dsc + 0.01 * seed) for case in ("T", "U")}
        write_scores(made.adapted_metrics(seed), scores)
    return made


def test_pretraining_tables_pair_encoders_on_the_cases_they_share(tmp_path: Path) -> None:
    from head_neck_pretraining_table import JOINED, write_tables

    encoders = [
        encoder(tmp_path, "default", KNOWN, ("A", "B", "C", "D"), 0.8),
        encoder(tmp_path, "unknown as background", KNOWN, ("A", "B", "C", "D"), 0.7),
        encoder(tmp_path, "nerve alone", KNOWN[:1], ("A", "B"), 0.85),
        encoder(tmp_path, "bone alone", KNOWN, ("C", "D"), 0.9),
    ]
    per_case, summary_file, table = write_tables(encoders, tmp_path / "out", KNOWN, NOVEL, 2, "the command")
    summary = json.loads(summary_file.read_text(encoding="utf-8"))

    def found(part: str, label: str, structure: str) -> dict[str, Any]:
        return next(e for e in summary[part] if (e["encoder"], e["structure"]) == (label, structure))

    assert found("held_out", "unknown as background", "mean of known")["minus_default"] == pytest.approx([-0.1] * 3)
    assert found("held_out", "nerve alone", "cord")["minus_default"] == pytest.approx([0.05] * 3)
    joined = found("held_out", JOINED, "mean of known")
    assert (joined["cases"], joined["dsc"]) == (4, pytest.approx(0.875))
    assert not any(e["encoder"] == "nerve alone" and e["structure"] == "mean of known" for e in summary["held_out"])
    assert not any(e["encoder"] == JOINED for e in summary["zero_shot"])
    assert found("adapted", "default", "larynx")["sd_over_seeds"] == pytest.approx(0.01 / 2**0.5)
    text = table.read_text(encoding="utf-8")
    assert "the command" in text
    assert "| nerve alone | +0.050 [+0.050, +0.050] | – | – |" in text
    assert len(per_case.read_text(encoding="utf-8").splitlines()) > 20


def head_neck_arguments(monkeypatch: pytest.MonkeyPatch, *words: str) -> Namespace:
    import head_neck

    monkeypatch.setattr(sys, "argv", ["head_neck.py", "--data", "data", *words])
    return head_neck._arguments()


def test_a_method_that_is_named_twice_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = head_neck_arguments(monkeypatch, "--methods", "core", "full", "bitfit", "core").methods
    assert methods == ["from_scratch", "full", "linear_probe", "decoder", "lora + decoder", "bitfit"]


def test_no_table_of_methods_is_called_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    import head_neck

    names = [
        head_neck._name_of(head_neck_arguments(monkeypatch, "--methods", *words).methods)
        for words in (["core"], ["all"], ["lora"], ["lora + decoder"], ["lora", "bitfit"])
    ]
    assert names[:2] == ["", "_methods"]
    assert len(set(names)) == len(names)


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
