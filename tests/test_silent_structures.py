"""An adaptation that has learned nothing says so."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import KNOWN, NOVEL, Lab, fsseg
from few_shot_job import job_and_volumes

from fsseg.adaptation.silent_structures import silent_notes
from fsseg.adaptation.start import make_start
from fsseg.methods.registry import create_method
from fsseg.models.parts import parts_of


def test_structures_that_are_predicted_nowhere_are_named(lab: Lab) -> None:
    job, volumes = job_and_volumes(lab, "full")
    start = make_start(job, volumes)
    head = parts_of(start.network.network).head
    channel = {name: index for index, name in enumerate(job.target.names)}
    with torch.no_grad():
        head.weight.zero_()
        head.bias[channel[KNOWN]], head.bias[channel[NOVEL]] = 1.0, -1.0
    (note,) = silent_notes(start)
    assert f"predicts nothing of {NOVEL}, not even" in note
    with torch.no_grad():
        head.bias[channel[NOVEL]] = 1.0
    assert not silent_notes(start)


def test_ranks_that_have_all_vanished_are_said(lab: Lab) -> None:
    job, volumes = job_and_volumes(lab, "full")
    job = replace(job, method=create_method("arena", {"rank": 4}))
    start = make_start(job, volumes)
    assert not any("rank 0" in note for note in silent_notes(start))
    with torch.no_grad():
        for name, parameter in start.network.trainable().items():
            if name.endswith("gate"):
                parameter.zero_()
    assert any("layers ended at rank 0" in note for note in silent_notes(start))


def test_a_training_that_was_too_short_warns(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ("--structure", NOVEL, "--set", "recipe.max_steps=1", "recipe.head_learning_rate=1.0e-6")
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", *words, method="bitfit"))
    assert outcome.code == 0
    assert f"predicts nothing of {NOVEL}" in caplog.text
