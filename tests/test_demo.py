"""The demo: its verdict, table and report from made-up results, and the whole pipeline with a few steps."""

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import fsseg

from fsseg.cli.main import main
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import Recipe
from fsseg.config.results import plain
from fsseg.demo.files import PLANS
from fsseg.demo.methods import METHODS, NOVEL, STRUCTURES
from fsseg.demo.report import meaning_section
from fsseg.demo.results import (
    BASELINE,
    JUDGED,
    PLATEAU,
    STEP_CAP,
    DemoTraining,
    StructureResult,
    judge,
    method_results,
)
from fsseg.demo.sizes import DemoSizes
from fsseg.demo.tables import distances_table, results_table
from fsseg.nnunet.planning import read_plans_file
from fsseg.reporting.html import report_html
from fsseg.stages import demo
from fsseg.stages.demo import DemoConfig, DemoResult, run_demo
from fsseg.stages.methods import run_methods

TINY = DemoSizes(
    cases_per_source=1,
    shots=1,
    test_cases=2,
    pretraining=PretrainSettings(steps=2, steps_per_epoch=1),
    recipe=Recipe(max_steps=2),
)
FILES = ("manifest.json", "report.html", "results.json", "test_cases.txt")
FOLDERS = ("metrics", "nnUNet_preprocessed", "nnUNet_raw", "predictions", "runs")


def made_up_results(dsc: dict[str, float], **of_structure: dict[str, float]) -> list[StructureResult]:
    """Return results with the DSC of each method, the same on all structures but those given by name."""
    return [
        StructureResult(
            structure=structure,
            novel=structure in NOVEL,
            method=method.label,
            dsc=(value := {**dsc, **of_structure.get(structure, {})}[method.label]),
            dsc_sd=0.02,
            cases={"case_0": value - 0.01, "case_1": value + 0.01},
            nsd=0.5,
            hd95_mm=math.nan,
            trainable_parameters=12345,
            seconds=7.4,
            steps=100,
            ended_by=STEP_CAP if method.label == BASELINE else PLATEAU,
            support=("case_2",),
        )
        for method in METHODS
        for structure in STRUCTURES
    ]


BETTER = {"from_scratch": 0.4, "full": 0.7, "linear_probe": 0.2, "decoder": 0.6, "lora + decoder": 0.8}
WORSE = {**BETTER, "from_scratch": 0.71}


def test_mean_of_the_judged_methods_decides() -> None:
    verdict = judge(made_up_results(BETTER))
    assert verdict.beats
    for structure in NOVEL:
        assert verdict.structures[structure] == pytest.approx({"adapted": 0.7, BASELINE: 0.4})
    assert verdict.difference == pytest.approx(0.3)
    assert verdict.interval == pytest.approx((0.3, 0.3))
    assert "beats from_scratch" in verdict.text
    assert "+0.300" in verdict.text


def test_dry_run_says_what_would_be_done_and_makes_nothing(tmp_path: Path) -> None:
    outcome = fsseg("demo", "--out", tmp_path / "demo", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"would make {tmp_path / 'demo'}:\nphantoms: 3 source sets of 10 cases")
    for method in METHODS:
        assert f"\n{method.label}: adapt to liver" in outcome.out
    assert fsseg("demo", "--out", tmp_path / "demo", "--dry-run", "--json").json["out"] == str(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "demo").mkdir()
    assert fsseg("demo", "--out", tmp_path / "demo", "--dry-run").code == 2


def test_one_good_method_is_not_enough() -> None:
    verdict = judge(made_up_results(WORSE))
    assert not verdict.beats
    assert "does NOT beat" in verdict.text


def test_novel_structures_weigh_the_same() -> None:
    verdict = judge(made_up_results(BETTER, pancreas={BASELINE: 0.9}))
    assert verdict.difference == pytest.approx(((0.7 - 0.4) + (0.7 - 0.9)) / 2)
    assert verdict.beats
    assert not judge(made_up_results(BETTER, pancreas={BASELINE: 1.0})).beats


def test_difference_that_varies_around_zero_is_not_better() -> None:
    results = [
        replace(result, cases={"case_0": 0.0, "case_1": 1.0}) if result.method == BASELINE else result
        for result in made_up_results(BETTER)
    ]
    verdict = judge(results)
    assert verdict.difference == pytest.approx(0.2)
    assert verdict.interval == pytest.approx((-0.29, 0.69))
    assert not verdict.beats


@pytest.mark.parametrize("change", [{"linear_probe": 1.0}, {"linear_probe": 0.0}])
def test_linear_probe_does_not_decide(change: dict[str, float]) -> None:
    assert judge(made_up_results(BETTER | change)) == judge(made_up_results(BETTER))
    assert not judge(made_up_results(WORSE | change)).beats


def test_known_structures_do_not_decide() -> None:
    assert judge(made_up_results(BETTER, liver={BASELINE: 1.0})).beats
    assert not judge(made_up_results(WORSE, liver={BASELINE: 0.0})).beats


def test_equal_is_not_better() -> None:
    assert not judge(made_up_results(dict.fromkeys(BETTER, 0.5))).beats


@pytest.mark.parametrize(("dsc", "status"), [(BETTER, 0), (WORSE, 1)])
def test_exit_status_follows_the_verdict(
    dsc: dict[str, float], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = made_up_results(dsc)
    verdict = judge(results)
    content = {"results": plain(results), "verdict": plain(verdict), "seconds": 200.0}
    monkeypatch.setattr(demo, "run_demo", lambda config: DemoResult(config.out, results, verdict, manifest=content))
    assert main(["demo", "--out", "somewhere", "--seed", "3"]) == status
    printed = capsys.readouterr().out
    assert verdict.text in printed
    assert "0.71 ± 0.02" in printed if status else "0.40 ± 0.02" in printed
    assert main(["demo", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["results"] == content["results"]


def test_table_has_a_row_per_method_and_a_column_per_structure() -> None:
    header, rows = results_table(made_up_results(BETTER))
    assert header[:5] == ["method", "liver", "kidney_left", "stomach (novel)", "pancreas (novel)"]
    assert [row[0] for row in rows] == [method.label for method in METHODS]
    assert rows[1] == ["full", *["0.70 ± 0.02"] * 4, "12,345", "100", "7"]


def test_undefined_distance_is_a_dash() -> None:
    _, rows = distances_table(made_up_results(BETTER))
    assert rows[0] == ["from_scratch", *["0.50 / –"] * 4]


def test_report_names_the_methods_that_ended_at_the_cap() -> None:
    page = report_html("demo", [meaning_section(made_up_results(BETTER))])
    assert "stopped falling: from_scratch." in page


def test_results_come_from_metrics_and_manifest(tmp_path: Path) -> None:
    header = "case,structure,dsc,nsd,hd95_mm,volume_prediction_ml,volume_reference_ml,status"
    lines = ["a,stomach,0.5,0.4,3,1,1,ok", "b,stomach,0.7,0.6,nan,1,1,ok", "a,liver,0.9,1,2,1,1,ok"]
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("\n".join([header, *lines]) + "\n")
    training = DemoTraining(trainable_parameters=12, seconds=1.5, steps=9, plateau=False, support=("c",))
    stomach, liver = method_results(METHODS[1], training, metrics)
    assert (stomach.method, stomach.structure, stomach.novel, liver.novel) == ("full", "stomach", True, False)
    assert stomach.dsc == pytest.approx(0.6)
    assert stomach.dsc_sd == pytest.approx(math.sqrt(0.02))
    assert stomach.cases == {"a": 0.5, "b": 0.7}
    assert (stomach.hd95_mm, plain(liver)["dsc_sd"]) == (3.0, None)
    assert (stomach.trainable_parameters, stomach.steps, stomach.ended_by) == (12, 9, STEP_CAP)


def test_existing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == UsageError.exit_code
    assert "exists already" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_missing_device_is_refused_before_any_work(tmp_path: Path) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), "--device", "cuda"]) == UsageError.exit_code
    assert list(tmp_path.iterdir()) == []


def test_failed_demo_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: object) -> None:
        raise FssegError("the disk burns")

    monkeypatch.setattr(demo, "run_pretrain", fail)
    monkeypatch.setattr(demo, "run_preprocess", lambda config: None)
    before = Path.cwd(), dict(os.environ)
    with pytest.raises(FssegError, match="burns"):
        run_demo(DemoConfig(out=tmp_path / "out", sizes=TINY))
    assert list(tmp_path.iterdir()) == []
    assert (Path.cwd(), dict(os.environ)) == before


def test_all_methods_are_defined_on_the_plans() -> None:
    assert read_plans_file(PLANS)["plans_name"] == PLANS.stem
    defined = {row.name: row.on_network.defined for row in run_methods(PLANS)}
    assert all(defined[method.name] for method in METHODS)


def test_judged_methods_exist() -> None:
    assert {BASELINE, *JUDGED} <= {method.label for method in METHODS}


@pytest.fixture(scope="module")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    before = Path.cwd()
    os.chdir(folder)
    try:
        run_demo(DemoConfig(out=Path("out"), seed=1, device="cpu", sizes=TINY))
    finally:
        os.chdir(before)
    return folder / "out"


def test_demo_folder_is_complete(tiny_demo: Path) -> None:
    assert sorted(path.name for path in tiny_demo.iterdir()) == sorted([*FILES, *FOLDERS])
    assert sorted(path.name for path in tiny_demo.parent.iterdir()) == ["out"]
    for method in METHODS:
        masks = sorted(path.name for path in (tiny_demo / "predictions" / method.folder).glob("*.nii.gz"))
        assert masks == [
            f"{case}.nii.gz" for case in (tiny_demo / "test_cases.txt").read_text(encoding="utf-8").split()
        ]


def test_demo_writes_results(tiny_demo: Path) -> None:
    results = json.loads((tiny_demo / "results.json").read_text(encoding="utf-8"))
    pairs = [(result["method"], result["structure"]) for result in results]
    assert sorted(pairs) == sorted((method.label, name) for method in METHODS for name in STRUCTURES)
    for result in results:
        assert 0 <= result["dsc"] <= 1
        assert len(result["cases"]) == 2
        assert result["steps"] <= TINY.recipe.max_steps
        assert not set(result["cases"]) & set(result["support"])
    assert len({tuple(result["support"]) for result in results}) == 1


def test_demo_manifests_name_existing_files(tiny_demo: Path) -> None:
    manifests = [
        path for part in ("nnUNet_raw", "runs", "predictions") for path in (tiny_demo / part).rglob("*manifest.json")
    ]
    named = [name for path in manifests for name in json.loads(path.read_text(encoding="utf-8"))["inputs"]]
    assert len(named) > 20
    for name in named:
        assert (tiny_demo / name).is_file(), name


def test_demo_report_is_self_contained(tiny_demo: Path) -> None:
    page = (tiny_demo / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count('src="data:image/png;base64,') == 5
    for text in (*STRUCTURES, *(method.label for method in METHODS), "Seed 1 ", "nnunetv2"):
        assert text in page
    assert str(tiny_demo.parent) not in page


@pytest.mark.slow
def test_default_demo_beats_training_from_scratch(tmp_path: Path) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), "--seed", "1"]) == 0
