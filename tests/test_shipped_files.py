"""Every shipped plans file builds its network, and every command of the README parses."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch
from conftest import fsseg

from fsseg.cli.main import COMMANDS
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.plans_network import network_of_plans

REPOSITORY = Path(__file__).resolve().parents[1]
PLANS = sorted((REPOSITORY / "plans").glob("*.json"))


def readme_commands() -> list[str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [line for line in lines if line.startswith("fsseg ")]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
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


def test_readme_shows_what_methods_prints_but_for_reasons() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n(method  .*?)```", text, flags=re.DOTALL)
    assert shown
    header, rule, *lines = fsseg("methods", "--plans", REPOSITORY / "plans" / "headneck_cpu.json").out.splitlines()
    lines = [re.sub(r"(not defined) .*", r"\1", line) for line in lines[: lines.index("")]]  # then: where to start
    last = rule.rindex(" ") + 1  # the rule is as long as the longest description that is left
    rows = [line for line in lines if len(line) > last and line[last - 2 : last] == "  "]
    rule = rule[: max(map(len, rows))]
    assert shown[1].splitlines() == [header, rule, *lines]


def test_readme_shows_every_stage_of_the_pipeline() -> None:
    shown = {shlex.split(command)[1] for command in readme_commands()}
    assert shown >= {"demo", "assemble", "preprocess", "pretrain", "adapt", "predict", "evaluate"}


@pytest.mark.parametrize("command", readme_commands())
def test_readme_command_parses(command: str) -> None:
    words = shlex.split(command)
    assert words[1] in COMMANDS
    module = importlib.import_module(f"fsseg.cli.{words[1]}")
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    parser.parse_args(words[2:])
