"""Shipped files: found by name, listed, part of a wheel; every plans file builds its network."""

import re
from pathlib import Path

import pytest
import torch
from conftest import fsseg

from fsseg.config.errors import UsageError
from fsseg.config.shipped_files import PLANS, SPECS, TABLES, Shipped, find_file
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.plans_network import network_of_plans

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", PLANS.files().values(), ids=lambda path: path.stem)
def test_shipped_plans_build_a_network_that_takes_their_patch(path: Path) -> None:
    plans = read_plans_file(path)
    dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": [1, 1]}, "regions_class_order": [1]}
    network = network_of_plans(plans, CONFIGURATION, dataset_json, output_channels=3)
    patch_size = plans["configurations"][CONFIGURATION]["patch_size"]
    with torch.no_grad():  # on the meta device, because some patches are too large for small machines
        logits = network.to("meta")(torch.zeros(1, 1, *patch_size, device="meta"))
    assert logits.shape == (1, 3, *patch_size)
    assert plans["plans_name"] == path.stem
    assert plans["description"]


def test_a_name_means_a_shipped_file_unless_there_is_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "btcv").mkdir()  # the data: a folder is no spec
    assert find_file("btcv", SPECS) == find_file("btcv.yaml", SPECS) == REPOSITORY / "dataset_specs" / "btcv.yaml"
    assert find_file(Path("seg_resnet"), PLANS) == REPOSITORY / "plans" / "seg_resnet.json"
    (tmp_path / "btcv.yaml").touch()
    assert find_file("btcv.yaml", SPECS) == Path("btcv.yaml")
    (tmp_path / "folder").mkdir()
    assert find_file("folder", SPECS) == Path("folder")


def test_an_unknown_name_tells_the_nearest_and_how_to_list_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"Unknown dataset spec 'btvc'. Did you mean 'btcv'\?[\s\S]*assemble --list"):
        find_file("btvc", SPECS)
    with pytest.raises(UsageError, match=r"File not found: plans/seg_resnet.json\n.*the name alone, seg_resnet\."):
        find_file("plans/seg_resnet.json", PLANS)
    with pytest.raises(
        UsageError, match=r"Unknown plans file 'a.json'[\s\S]*--list-plans` describes those. Or `auto`."
    ):
        find_file("a.json", PLANS, "Or `auto`.")


@pytest.mark.parametrize(
    ("words", "shipped"), [(("assemble", "--list"), SPECS), (("preprocess", "--list-plans"), PLANS)]
)
def test_shipped_files_are_listed_a_line_each(words: tuple[str, ...], shipped: Shipped) -> None:
    outcome = fsseg(*words)
    assert outcome.code == 0
    names = [re.match(r"(\w+)  +\w.{20}", line) for line in outcome.out.splitlines()]
    assert [name and name[1] for name in names] == list(shipped.files())
    assert max(map(len, outcome.out.splitlines())) <= 120


def test_a_wheel_has_every_package() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"\npackages = \[\n(.*?)\n\]", text, flags=re.DOTALL)
    assert listed
    folders = sorted(file.parent.relative_to(REPOSITORY) for file in (REPOSITORY / "fsseg").rglob("__init__.py"))
    shipped = [f"fsseg.shipped.{kind.folder}".replace("/", ".") for kind in (SPECS, PLANS, TABLES)]
    assert re.findall(r'"(.+)",', listed[1]) == [*(".".join(folder.parts) for folder in folders), *shipped]
