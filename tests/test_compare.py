"""`fsseg compare`: runs and folders of predictions side by side on the same test cases."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed, tree

from fsseg.comparing import checked
from fsseg.comparing.entries import read_entries, require_unseen
from fsseg.comparing.numbers import Comparison
from fsseg.config.errors import UsageError
from fsseg.config.json_files import write_json
from fsseg.evaluation.aggregation import CaseRow
from fsseg.evaluation.metrics_csv import read_case_rows
from fsseg.reporting.anonymous import anonymous_names
from fsseg.stages import compare as stage


@pytest.fixture(scope="module")
def predictions(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of the target cases, as another tool with other integers might leave them: the references."""
    folder = tmp_path_factory.mktemp("other") / "tool"
    shutil.copytree(lab.target / "labelsTr", folder)
    shutil.copy(lab.target / "dataset.json", folder)
    return folder


def words(lab: Lab, out: Path, *runs: object, test: Path | None = None) -> list[object]:
    tail = ["--test", test or lab.test_list, "--reference", lab.target / "labelsTr", "--out", out, "--device", "cpu"]
    return ["compare", *runs, *tail]


def list_of(tmp_path: Path, *cases: str) -> Path:
    file = tmp_path / "list.txt"
    file.write_text("\n".join(cases), encoding="utf-8")
    return file


def test_a_run_and_predictions_are_compared_on_the_same_cases(
    lab: Lab, adapted: Path, predictions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    facts = succeed(*words(lab, out, adapted, f"perfect={predictions}"), "--baseline", "perfect")
    assert facts["structures"] == [name for name in facts["structures"] if name in (KNOWN, NOVEL)]
    assert "Not compared, because not all know it" in facts["notes"][0]
    assert {row.dsc for row in read_case_rows(out / "metrics" / "perfect.csv")} == {1.0}
    assert (out / "masks" / "adapted" / f"{lab.case(3)}.nii.gz").is_file()
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1 + len(facts["structures"])  # the dots; the only case is worst and best
    assert 'class="viewer"' in page
    assert str(tmp_path) not in page
    assert str(lab.root) not in page
    for name in ("compare.md", "compare.tex", "numbers.csv", "differences.csv"):
        assert "adapted" in (out / name).read_text(encoding="utf-8")


def test_a_dry_run_says_who_predicts_and_writes_nothing(
    lab: Lab, adapted: Path, predictions: Path, tmp_path: Path
) -> None:
    outcome = fsseg(*words(lab, tmp_path / "compared", adapted, f"other={predictions}"), "--dry-run")
    assert outcome.code == 0
    assert "would predict 1 case with adapted" in outcome.out
    assert "adapted, other; baseline adapted" in outcome.out
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_anonymous_writes_no_case_anywhere(lab: Lab, adapted: Path, predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    succeed(*words(lab, out, adapted, f"other={predictions}"), "--anonymous")
    for path, content in tree(out).items():
        assert "PhantomTarget_target" not in path
        assert b"PhantomTarget_target" not in content
    assert {row.case for row in read_case_rows(out / "metrics" / "other.csv")} == {"case_001"}
    assert anonymous_names(["b", "a", "b"]) == {"a": "case_001", "b": "case_002"}


@pytest.mark.full
def test_a_comparison_that_was_stopped_predicts_no_run_again(
    lab: Lab, adapted: Path, predictions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = words(lab, tmp_path / "compared", adapted, f"other={predictions}")
    with monkeypatch.context() as patch:
        patch.setattr(checked, "compare", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert fsseg(*command).code == 1
    monkeypatch.setattr(stage, "run_predict", lambda config: pytest.fail("predicted again"))
    assert succeed(*command)["command"] == "compare"


def test_differences_are_paired_and_a_mean_counts_structures_alike() -> None:
    def rows(*scores: float) -> list[CaseRow]:
        pairs = zip(("a", "a", "b"), ("liver", "spleen", "liver"), scores, strict=True)
        return [CaseRow(case, name, dsc, 1.0, 1.0, 1.0, 1.0, "ok") for case, name, dsc in pairs]

    found = Comparison({"x": rows(0.5, 0.9, 0.7), "y": rows(0.6, 0.9, 0.9)}, ("liver", "spleen"), "x")
    minus = found.scores("y", "liver").minus
    assert minus is not None
    assert minus.dsc.mean == pytest.approx(0.15)
    assert minus.dsc.low == pytest.approx(0.1)
    assert minus.p == pytest.approx(0.5)  # two cases never give less
    assert not minus.is_better
    assert found.scores("x", "mean").dsc.mean == pytest.approx((0.6 + 0.9) / 2)
    assert found.scores("x", "mean").minus is None
    assert found.dsc_of_cases("x", "mean") == pytest.approx({"a": 0.7, "b": 0.7})


def test_what_was_trained_on_is_no_test_case(lab: Lab, adapted: Path, predictions: Path, tmp_path: Path) -> None:
    support = json.loads((adapted / "split.json").read_text(encoding="utf-8"))["support"]
    out = fsseg(*words(lab, tmp_path / "compared", adapted, test=list_of(tmp_path, support[0])))
    assert out.code == 2
    assert "among the cases that were trained on" in out.err
    assert f"adapted: {support[0]}" in out.err
    predicted = tmp_path / "predicted"
    shutil.copytree(predictions, predicted)
    content = json.loads((predicted / "dataset.json").read_text(encoding="utf-8"))
    write_json(predicted / "dataset.json", content | {"support_cases": support})
    with pytest.raises(UsageError, match="predicted: "):
        require_unseen(read_entries([str(predicted)]), support)


def test_a_base_is_held_to_what_it_was_pretrained_on(lab: Lab, tmp_path: Path) -> None:
    (entry,) = read_entries([str(lab.base)])
    trained = next(iter(entry.learned))
    with pytest.raises(UsageError, match=f"base: {trained}"):
        require_unseen([entry], [trained])


@pytest.mark.parametrize(
    ("runs", "more", "message"),
    [
        (["nowhere"], [], "Folder not found: nowhere"),
        (["PREDICTIONS", "tool=PREDICTIONS"], [], "Two of what is compared are called 'tool'"),
        (["../x=PREDICTIONS"], [], "cannot be the name of a run"),
        (["PREDICTIONS"], ["--baseline", "tol"], "Unknown baseline 'tol'. Did you mean 'tool'?"),
        (["PREDICTIONS"], ["--structure", "livver"], "Unknown structure 'livver'"),
        (["PREDICTIONS"], ["--images", "nowhere"], "Image folder not found: nowhere"),
        (["PREDICTIONS"], ["--test", "nowhere"], "Case list not found: nowhere"),
        (["RAW"], [], "No label map in"),
    ],
)
def test_wrong_words_are_refused(
    lab: Lab, predictions: Path, tmp_path: Path, runs: list[str], more: list[str], message: str
) -> None:
    named = [run.replace("PREDICTIONS", str(predictions)).replace("RAW", str(lab.target)) for run in runs]
    outcome = fsseg(*words(lab, tmp_path / "compared", *named), *more)
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(tmp_path.glob("compared*"))


def test_pictures_that_fail_leave_the_numbers(
    lab: Lab, predictions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    out = tmp_path / "compared"
    succeed(*words(lab, out, predictions), "--images", images)
    assert "This part could not be made" in (out / "compare.html").read_text(encoding="utf-8")
    assert "No image of" in caplog.text
