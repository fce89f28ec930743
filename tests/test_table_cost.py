"""What a table costs, told before it runs: measured once a kind of runs, also where data and weights are missing."""

import json
from pathlib import Path
from typing import Any

import pytest
import SimpleITK
import torch
from checkpoint_files import WRITERS
from conftest import fsseg
from table_files import TABLE, write

from fsseg.adaptation import step_times
from fsseg.adaptation.cost_sample import model_of_plans, sample_start, with_random_weights
from fsseg.adaptation.step_times import StepTimes, measured_times, tiles_of
from fsseg.checkpoints.container import open_checkpoint
from fsseg.checkpoints.family import Asked
from fsseg.checkpoints.registry import FAMILIES, load_family
from fsseg.checkpoints.shipped_network import plans_of_family
from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.json_files import read_json, write_json
from fsseg.experiments.costs import lookup as cost_lookup
from fsseg.experiments.costs.book import COSTS_NAME
from fsseg.experiments.costs.cases import ImageSize, find_test_cases
from fsseg.experiments.costs.handling import handling_seconds
from fsseg.experiments.costs.kinds import Kind, kinds_of
from fsseg.experiments.costs.measure import KindCost, measured_kind
from fsseg.experiments.costs.table_cost import TableCost, table_cost
from fsseg.experiments.open_table import OpenTable, TableConfig, open_table
from fsseg.experiments.run_order import features_first
from fsseg.nnunet.planning import read_plans_file

AXES: dict[str, Any] = {
    "base": ["ours"],
    "method": ["full", "linear_probe", "spatial_adapter"],
    "shots": [1, 2],
    "seed": [0, 1],
}
ONE_OF = {"batch_size": 2, "training_free": False, "tile_seconds": 0.5}
COST = KindCost(StepTimes(1.0, 1.0, 0.0), model_mib=3, feature_mib=0, **ONE_OF)
ON_FEATURES = KindCost(StepTimes(0.1, 0.1, 0.0, 4.0), model_mib=1, feature_mib=2, **ONE_OF)


def opened(folder: Path, **changes: Any) -> OpenTable:
    words = write(folder, **{"settings": {"recipe.max_steps": 50}, "axes": AXES, **changes})
    return open_table(TableConfig(table=words[1], root=words[3], out=words[5], device="cpu"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the measuring by fixed costs; return the methods that were measured."""
    methods: list[str] = []

    def measure(_base: object, settings: AdaptationSettings, *_: object) -> KindCost:
        methods.append(settings.method)
        return COST if settings.method == "full" else ON_FEATURES

    monkeypatch.setattr(cost_lookup, "measured_kind", measure)
    monkeypatch.setattr(cost_lookup, "handling_seconds", lambda *_: 10.0)
    return methods


def cost_of(table: OpenTable) -> TableCost:
    return table_cost(table, jobs=1, threads=1)


def test_seeds_and_shots_are_of_one_kind_and_what_takes_other_time_is_not(tmp_path: Path) -> None:
    axes = {**AXES, "recipe.precision": ["float32", "bfloat16"], "recipe.decoder_learning_rate": [0.1, 0.2]}
    kinds = kinds_of(opened(tmp_path, axes=axes))

    assert [len(kind.runs) for kind in kinds] == [2 * 2 * 2] * 6
    assert kinds[0].name == "full, recipe.precision float32"


def test_a_dry_run_tells_hours_of_all_kinds_though_nothing_is_there(tmp_path: Path, measured: list[str]) -> None:
    words = write(tmp_path, settings={"recipe.max_steps": 50}, axes=AXES)
    outcome = fsseg(*words, "--jobs", 2, "--device", "cpu", "--dry-run")

    assert outcome.code == 0, outcome.err
    assert measured == ["full", "linear_probe", "spatial_adapter", "full"]  # the last one stands for the pretraining
    assert "kind of run      runs  done  hours each   hours\nfull                4     0" in outcome.out
    assert "2 runs at a time; disk: " in outcome.out
    assert "380 x 330 x 380 mm is assumed" in outcome.out
    assert "missing: data of Site" in outcome.out
    again = fsseg(*words, "--device", "cpu", "--dry-run", "--json")
    assert len(measured) == 4  # nothing is measured twice
    assert json.loads(again.out)["cost"]["kinds"][0]["runs"] == 4


def test_hours_are_steps_crops_and_patches(tmp_path: Path, measured: list[str]) -> None:
    axes = {**AXES, "method": ["full"], "shots": [1], "seed": [0]}
    target = {**TABLE["targets"]["liver"], "test": {"names": ["t1", "t2"]}}
    dataset = {"target": {**TABLE["datasets"]["target"], "case_mm": [7 * 32, 7 * 24, 7 * 48]}}  # two patches
    table = opened(tmp_path, axes=axes, targets={"liver": target}, datasets=dataset, scoring={"tile_step_size": 1.0})
    cost = cost_of(table)

    patches = 8 * 2 * 2  # of two cases, with flips along three axes
    assert cost.kinds[0].hours == pytest.approx((50 * 1.0 + patches * 0.5 + 2 * 10) / 3600, abs=1e-3)
    assert cost.kinds[0].hours_each == pytest.approx(cost.kinds[0].hours, abs=1e-3)
    pretraining = 2 * 1.0 + 50 * 0.5  # two steps, and 50 crops of the validation after them
    assert cost.pretrainings[0].hours == pytest.approx(pretraining / 3600, abs=1e-3)
    assert cost.hours == pytest.approx((50 + patches * 0.5 + 2 * 10 + pretraining) / 3600, abs=1e-3)
    assert cost.disk_mib.models == 3


def test_a_base_made_of_another_has_its_network_and_waits_for_its_pretraining(
    tmp_path: Path, measured: list[str]
) -> None:
    made = {"imported": {"base": "ours", "channels": ["MR=CT"], "plans": "hippocampus_cpu"}}
    axes = {**AXES, "base": ["ours", "made"], "method": ["full"]}
    table = opened(tmp_path, bases={**TABLE["bases"], "made": made}, axes=axes)
    ours, other = (kind.base for kind in kinds_of(table))

    assert ours
    assert other
    assert ours.architecture == other.architecture
    block = read_plans_file(Path("hippocampus_cpu"))["configurations"]["3d_fullres"]
    assert (ours.patch, other.patch) == (
        [24, 24, 32],
        block["patch_size"],
    )
    assert [line.name for line in cost_of(table).pretrainings] == ["ours"]


def test_held_out_cases_are_a_fifth_of_those_that_are_there(tmp_path: Path) -> None:
    target = {**TABLE["targets"]["liver"], "test": {"held_out": True}, "pool": None}
    names = tuple(f"c{number}" for number in range(10))
    table = opened(tmp_path, cases=names, targets={"liver": target}, axes={**AXES, "method": ["zero_shot"]})
    for file in (tmp_path / "root/site/imagesTr").iterdir():
        SimpleITK.WriteImage(SimpleITK.Image([4, 5, 6], SimpleITK.sitkInt16), file)
    found = find_test_cases(table, "liver")

    assert (found.number, found.assumed, found.middle.size_xyz) == (2, False, (4, 5, 6))


def test_features_that_two_methods_share_are_counted_once(tmp_path: Path, measured: list[str]) -> None:
    cost = cost_of(opened(tmp_path, axes={**AXES, "shots": [1], "seed": [0]}))
    first, second = (line.hours for line in cost.kinds[1:])

    assert first - second == pytest.approx(100 * 4.0 / 3600, abs=2e-3)
    assert cost.disk_mib.features == 100 * 2


def test_finished_runs_say_what_others_of_as_many_shots_take(tmp_path: Path, measured: list[str]) -> None:
    table = opened(tmp_path, axes={**AXES, "method": ["full"]})
    run = table.run(table.cells[0])
    for folder, seconds in ((run.adaptation, 30000.0), (run.predictions, 6000.0)):
        folder.mkdir(parents=True)
        write_json(folder / "manifest.json", {"seconds": seconds})
    run.metrics.touch()
    (line,) = cost_of(table).kinds

    assert (line.runs, line.done) == (4, 1)
    assert line.hours > 10  # the other run with one shot
    assert line.hours < 12


def test_what_cannot_be_measured_says_why_and_the_rest_is_told(tmp_path: Path) -> None:
    axes = {"base": ["ours", "public"], "method": [{"label": "dora", "method": "dora", "decoder": "tuned"}]}
    outcome = fsseg(*write(tmp_path, axes=axes), "--dry-run")

    assert outcome.code == 0, outcome.err
    assert "dora is not defined on PlainConvUNet" in outcome.out
    assert "only its checkpoint says what its network is, unless the table gives the `family`" in outcome.out
    assert "hours, without what is not known" in outcome.out


def test_costs_that_are_damaged_or_of_another_version_are_measured_again(tmp_path: Path, measured: list[str]) -> None:
    table = opened(tmp_path, axes={**AXES, "method": ["full"]})
    cost_of(table)
    file = table.place.out / COSTS_NAME
    (machine,) = read_json(file)
    write_json(file, {machine: {key: {"cost": {"other": 1}} for key in read_json(file)[machine]}})
    cost_of(table)
    file.write_text("{", encoding="utf-8")
    cost_of(table)

    assert measured == ["full"] * 6


def test_runs_on_features_come_first_beside_those_that_share_them(tmp_path: Path) -> None:
    table = opened(tmp_path, axes={**AXES, "shots": [1]})
    runs = {table.run(cell): cell for cell in table.cells}
    ordered = [(cell.settings.method, cell.settings.seed) for _, cell in features_first(runs)]

    pairs = [(method, seed) for seed in (0, 1) for method in ("linear_probe", "spatial_adapter")]
    assert ordered == [*pairs, ("full", 0), ("full", 1)]


def test_of_a_long_step_one_crop_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []

    def step(_: object, *, steps: int, crops: int, batch_size: int) -> StepTimes:
        taken.append((steps, batch_size))
        return StepTimes(7.0, 6.0, 1.0, 2.0)

    monkeypatch.setattr(step_times, "_measured", step)
    model = with_random_weights(model_of_plans(read_plans_file(Path("phantom_plans")), "3d_fullres", ("a",)))
    start = sample_start(AdaptationSettings(structures=("a",), method="full"), model, torch.device("cpu"))
    assert measured_times(start, long_seconds=5.0) == StepTimes(14.0, 12.0, 2.0, 2.0)
    assert measured_times(start, long_seconds=10.0).seconds_per_step == 7.0
    assert taken == [(1, 1), (1, 1), (2, 2)]


def test_reading_and_writing_is_measured_on_an_image_of_noise() -> None:
    model = model_of_plans(read_plans_file(Path("phantom_plans")), "3d_fullres", ("a", "b"))
    assert handling_seconds(model, ImageSize((20, 30, 40), (3.0, 3.0, 4.0)), 1) > 0


@pytest.mark.parametrize(("shape", "tiles"), [((16, 16, 16), 1), ((17, 16, 16), 2), ((32, 24, 16), 3 * 2)])
def test_a_window_takes_steps_of_half_a_patch(shape: tuple[int, ...], tiles: int) -> None:
    assert tiles_of(shape, (16, 16, 16), 0.5) == tiles


@pytest.mark.full
@pytest.mark.parametrize("method", ["full", "lora", "adalora", "linear_probe", "prototype", "zero_shot"])
def test_methods_of_every_sort_are_measured_without_a_base_and_a_case(method: str, tmp_path: Path) -> None:
    (kind,) = kinds_of(opened(tmp_path, axes={"base": ["ours"], "method": [method]}))
    assert isinstance(kind, Kind)
    assert kind.base is not None
    cost = measured_kind(kind.base, kind.sample.settings, torch.device("cpu"), 1)
    assert (cost.step.seconds_per_step > 0) is (method not in ("prototype", "zero_shot"))
    assert cost.tile_seconds > 0
    assert KindCost.of(json.loads(json.dumps(cost.as_dict()))) == cost


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in FAMILIES if load_family(name).network])
def test_the_network_of_a_family_is_that_of_its_files(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "file.pth")
    translated = load_family(name).translate(open_checkpoint(tmp_path / "file.pth"), Asked()).plans
    known = plans_of_family(name)
    assert translated
    assert known
    ours, theirs = (plans["configurations"]["3d_fullres"] for plans in (known, translated))
    for key in ("patch_size", "spacing"):
        assert list(map(float, ours[key])) == list(map(float, theirs[key])), key
    assert ours["batch_size"] == theirs["batch_size"]
    assert ours["architecture"]["network_class_name"] == theirs["architecture"]["network_class_name"]
    assert known["transpose_forward"] == translated["transpose_forward"]
