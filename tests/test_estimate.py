"""Leave-one-out over the support cases: stopped and resumed, and where nothing can be estimated."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed

from fsseg.adaptation import estimate
from fsseg.adaptation.fold_scores import FoldScores
from fsseg.config.errors import FssegError
from fsseg.config.staging import staging_of


def record_folds(patch: pytest.MonkeyPatch, stop_at: str = "") -> list[tuple[str, tuple[str, ...]]]:
    """Return a list that grows by label and cases of every fold that is trained; stop before one of them."""
    fit, folds = estimate.fit_network, []

    def recorded(start: Any, label: str, *options: Any) -> Any:
        if label == stop_at:
            raise KeyboardInterrupt
        folds.append((label, start.cases))
        return fit(start, label, *options)

    patch.setattr(estimate, "fit_network", recorded)
    return folds


def test_a_stopped_leave_one_out_goes_on_to_the_same_result(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = lab.adapt_words(tmp_path / "run", "--estimate", "loo")
    with monkeypatch.context() as patch:
        begun = record_folds(patch, stop_at="leave-one-out 2/2")
        assert fsseg(*words).code == 1
    scores, masks = sorted(staging_of(tmp_path / "run").iterdir(), key=lambda path: path.suffix)
    assert (scores.name, masks.suffix) == ("training_estimate.json", ".npz")  # of one fold; no state of its training
    with monkeypatch.context() as patch:
        gone_on = record_folds(patch)
        resumed = succeed(*words)
    first, second = resumed["support"]
    assert begun == [("leave-one-out 1/2", (second,))]  # without the case that is scored
    assert gone_on == [("leave-one-out 2/2", (first,))]
    whole = succeed(*lab.adapt_words(tmp_path / "whole", "--estimate", "loo"))
    assert resumed["estimate"] == whole["estimate"]
    assert not (tmp_path / "run" / "training_estimate.json").exists()


def test_the_folds_of_another_command_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "training_estimate.json"
    FoldScores(file, "one").add("case_a", {"liver": 0.5})
    assert FoldScores(file, "one").folds == {"case_a": {"liver": 0.5}}
    assert FoldScores(file, "other").folds == {}
    assert "other settings or data" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"fingerprint": "one", "folds": ["case_a"]}'])
def test_a_record_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "training_estimate.json"
    file.write_text(content)
    with pytest.raises(FssegError, match=r"(?s)training_estimate\.json.*Delete it to start again"):
        FoldScores(file, "one")


@pytest.mark.parametrize("method", ["lora", "prototype"])
def test_what_one_case_alone_annotates_is_not_estimable(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    copy = lab.copy_target(tmp_path / "raw")
    file = copy.target / "structures.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    for index in (1, 2):
        annotated = content["cases"][copy.case(index)]["annotated"]
        annotated.remove(NOVEL)
    file.write_text(json.dumps(content), encoding="utf-8")
    cases = [copy.case(index) for index in range(3)]
    outcome = fsseg(*copy.adapt_words(tmp_path / "run", "--estimate", "loo", "--cases", *cases, method=method))
    assert outcome.code == 0, outcome.err
    assert f"{NOVEL}: not estimable from these cases, because one alone annotates it" in outcome.out
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["estimate"][NOVEL]["mean"] is None
    assert list(manifest["estimate"][KNOWN]["cases"]) == cases
    shown = fsseg("adapter", "show", tmp_path / "run" / "adapter.safetensors")
    assert f"expected DSC of {KNOWN}" in shown.out
    assert f"expected DSC of {NOVEL}" not in shown.out
