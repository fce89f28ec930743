"""Image channels of a dataset.json go by their numbers, not by their order in the file."""

import json
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from fsseg.checkpoints.input_channels import channel_map
from fsseg.config.errors import FssegError
from fsseg.data.channels import channel_names, same_channels
from fsseg.data.dataset_json import checked_dataset_json
from fsseg.nnunet import planning
from fsseg.nnunet.raw_dataset import read_raw_dataset

BACKWARDS = {"channel_names": {"1": "PET", "0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii"}


def test_a_name_belongs_to_its_number(tmp_path: Path) -> None:
    assert channel_names(BACKWARDS) == ("CT", "PET")
    ten = {str(index): f"c{index}" for index in reversed(range(11))}
    assert channel_names({"channel_names": ten}) == tuple(f"c{index}" for index in range(11))
    assert list(checked_dataset_json(BACKWARDS, "here")["channel_names"].items()) == [("0", "CT"), ("1", "PET")]
    (tmp_path / "dataset.json").write_text(json.dumps(BACKWARDS))
    assert list(read_raw_dataset(tmp_path).dataset_json["channel_names"]) == ["0", "1"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"channel_names": ["CT"]}, "must be like"),
        ({"channel_names": {}}, "must be like"),
        ({"channel_names": {"0": 7}}, "names as text, got {"),
        ({"channel_names": {"0": " "}}, "names as text"),
        ({"channel_names": {"1": "CT"}}, "keys 0 to 0"),
        ({"channel_names": {"0": "CT", "2": "PET"}}, "got {.0.: .CT., .2.: .PET.}"),
        ({"channel_names": {"0": "CT", "00": "PET"}}, "keys 0 to 1"),
        ({"channel_names": {"first": "CT"}}, "keys 0 to 0"),
        ({}, "must be like"),
    ],
)
def test_other_keys_and_names_are_refused(names: dict[str, Any], message: str) -> None:
    with pytest.raises(FssegError, match=message):
        channel_names(names, "there/dataset.json")


def test_case_does_not_matter() -> None:
    assert same_channels(["CT", "PET"], ("ct", "Pet"))
    assert not same_channels(["CT", "PET"], ["PET", "CT"])
    assert [channel.source for channel in channel_map(["pet", "ct"], ["CT", "PET"]).channels] == [1, 0]


def test_the_planner_normalises_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    schemes: list[str] = []

    class Planner(ExperimentPlanner):
        def __init__(self, dataset_id: int) -> None:
            self.dataset_json = BACKWARDS  # as nnU-Net reads the file
            self.dataset_fingerprint = {"median_relative_size_after_cropping": 1.0}
            self.plans_identifier = "plans"

        def plan_experiment(self) -> None:
            schemes.extend(self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()[0])

    monkeypatch.setattr(planning, "_extract_fingerprint", lambda dataset_id: None)
    monkeypatch.setattr(planning, "_planner_class", lambda name: Planner)
    assert planning.plan_automatically(1, "Planner", None, checked_dataset_json(BACKWARDS, "here")) == "plans"
    assert schemes == ["CTNormalization", "ZScoreNormalization"]
