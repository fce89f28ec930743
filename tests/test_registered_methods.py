"""Methods of others: registered by a call or by an entry point, and then as good as fsseg's own."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import NOVEL, Lab, fsseg, succeed
from pydantic import Field
from torch import nn

import fsseg as api
from fsseg.config import entry_points
from fsseg.config.errors import UsageError
from fsseg.methods import registration
from fsseg.methods.registry import create_method, method_names, plain_name


class NormOptions(api.MethodOptions):
    scales: bool = Field(default=True, description="train the scales, too")


class Norms(api.Method):
    """Train the norms.

    More about it.
    """

    Options = NormOptions
    options: NormOptions
    family = "selective"

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        for module in network.modules():
            if isinstance(module, nn.InstanceNorm3d):
                yield module.bias
                if self.options.scales:
                    yield module.weight


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registration, "_registered", {})
    entry_points.run_entry_points.cache_clear()
    yield
    entry_points.run_entry_points.cache_clear()


def test_a_registered_method_is_listed_described_and_created() -> None:
    api.register_method("norms", Norms, presets={"shifts": {"scales": False}})
    assert method_names()[-2:] == ["norms", "norms:shifts"]
    method = create_method("norms:shifts")
    assert isinstance(method, Norms)
    assert not method.options.scales
    assert plain_name(method) == "norms"
    row = next(row for row in succeed("methods") if row["name"] == "norms")
    assert (row["summary"], row["mergeable"], row["decoder"]) == ("Train the norms.", True, ["frozen", "tuned"])
    text = fsseg("methods", "norms").out
    assert "More about it." in text
    assert "scales=true   (true or false)" in text


def test_a_registered_method_adapts_and_its_adapter_says_where_it_is_missing(lab: Lab, tmp_path: Path) -> None:
    api.register_method("norms", Norms)
    run = tmp_path / "run"
    facts = succeed(*lab.adapt_words(run, "--structure", NOVEL, method="norms"))
    assert facts["merged"]
    adapter = run / "adapter.safetensors"
    assert succeed("adapter", "show", adapter)["method"] == "norms"
    merge = ("adapter", "merge", adapter, "--base", lab.base, "--out", tmp_path / "merged")
    registration._registered.clear()
    outcome = fsseg(*merge)
    assert outcome.code == 1
    assert "Unknown method 'norms'" in outcome.err
    assert "after fsseg.register_method" in outcome.err
    api.register_method("norms", Norms)
    assert fsseg(*merge).code == 0


class Misfit(api.Method):
    family = "norms"  # type: ignore[assignment]
    decoder_choices = ("melted",)  # type: ignore[assignment]
    training_free = True

    class Options(api.MethodOptions):
        needed: int


WRONG: dict[str, tuple[str, Any, dict[str, Any], list[str]]] = {
    "all at once": (
        "My-Method",
        Misfit,
        {},
        [
            "6 errors in method",
            "lower-case",
            "family is 'norms'; allowed: whole",
            "'melted'",
            "no fit_closed_form",
            "options needed have no default",
            "no summary",
        ],
    ),
    "taken": ("lora", Norms, {}, ["a method of fsseg has this name"]),
    "no method": ("mine", nn.Module, {}, ["no subclass of fsseg.Method"]),
    "no class": ("mine", "lora", {}, ["no subclass of fsseg.Method"]),
    "preset": ("mine", Norms, {"presets": {"a:b": {}, "c": {"scale": 1}}}, ["preset 'a:b'", "did you mean 'scales'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_a_method_is_refused(case: str) -> None:
    name, method, more, parts = WRONG[case]
    with pytest.raises(UsageError) as refusal:
        api.register_method(name, method, **more)
    for part in parts:
        assert part in str(refusal.value)
    assert not registration._registered


def test_a_class_that_is_defined_again_takes_the_place_of_its_earlier_self() -> None:
    again = type("Norms", (Norms,), {"__qualname__": Norms.__qualname__, "__module__": Norms.__module__})
    other = type("Others", (Norms,), {})
    api.register_method("norms", Norms)
    api.register_method("norms", again, summary="again")
    assert isinstance(create_method("norms"), again)
    with pytest.raises(UsageError, match="Norms has this name"):
        api.register_method("norms", other, summary="others")


PLUGIN = """
import fsseg

class Mine(fsseg.Method):
    '''Train nothing of its own.'''
    family = "selective"

def register():
    fsseg.register_method("mine", Mine)

def taken():
    fsseg.register_method("lora", Mine)
"""


def install(folder: Path, **points: str) -> None:
    """Write a package as an installation leaves it."""
    (folder / "fsseg_plugin_of_a_test.py").write_text(PLUGIN, encoding="utf-8")
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[fsseg.methods]", *lines]), encoding="utf-8")


def test_methods_of_installed_packages_are_known_and_a_broken_one_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = "fsseg_plugin_of_a_test"
    install(tmp_path, gone="no_such_module:register", mine=f"{module}:register", taken=f"{module}:taken")
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert method_names()[-1] == "mine"
        assert plain_name(create_method("mine")) == "mine"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "What mine adds is left out: its entry point gone = no_such_module:register" in said[0]
    assert "a method of fsseg has this name" in said[1]


def test_the_command_line_lists_methods_of_installed_packages(tmp_path: Path) -> None:
    install(tmp_path, mine="fsseg_plugin_of_a_test:register", gone="no_such_module:register")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from fsseg.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "methods"], capture_output=True, encoding="utf-8", check=True)
    assert "Train nothing of its own." in done.stdout
    assert done.stderr.count("gone = no_such_module:register") == 1
    assert "Traceback" not in done.stderr
