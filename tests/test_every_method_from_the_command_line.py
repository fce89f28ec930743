"""Every method adapts, saves and predicts through the commands; what is not defined is refused there."""

from pathlib import Path

import pytest
from conftest import NOVEL, Lab, fsseg, succeed
from method_cases import CASES, FITTING_OPTIONS
from tiers import rest_full

from fsseg.methods.registry import create_method, method_names
from fsseg.nnunet.model_folder import ModelFolder

DEFINED = {case.method for case in CASES if case.network == "plain"}


@pytest.mark.parametrize("method", rest_full(sorted(DEFINED), "lora", "adaptformer", "linear_probe", "prototype"))
def test_a_method_adapts_and_predicts(lab: Lab, tmp_path: Path, method: str) -> None:
    options = [f"{name}={value}" for name, value in FITTING_OPTIONS.get(method, {}).items()]
    words = ("--structure", NOVEL, "--set", "recipe.max_steps=2", "recipe.feature_crops=4", *options)
    run = tmp_path / "run"
    facts = succeed(*lab.adapt_words(run, *words, method=method))
    assert facts["merged"] == (not create_method(method, FITTING_OPTIONS.get(method)).not_merged_because)
    shown = succeed("adapter", "show", run / "adapter.safetensors")
    assert shown["method"] == method
    assert shown["base_sha256"] == ModelFolder.read(lab.base).sha256
    images = tmp_path / "images"
    images.mkdir()
    (images / "case_0000.nii.gz").symlink_to(lab.image(1))
    where = ("--run", run) if facts["merged"] else ("--base", lab.base, "--adapter", run / "adapter.safetensors")
    predicted = succeed("predict", *where, "--input", images, "--output", tmp_path / "out", "--tile-step-size", 1)
    assert predicted["structures"] == [NOVEL]
    assert (tmp_path / "out" / "case.nii.gz").is_file()


@pytest.mark.parametrize("method", sorted(set(method_names()) - DEFINED))
def test_a_method_that_is_not_defined_is_refused_before_training(lab: Lab, tmp_path: Path, method: str) -> None:
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", method=method))
    assert outcome.code == 2
    assert "\n  Use " in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()
