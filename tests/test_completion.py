"""Shell completion: the scripts know every command, option and listed value, and bash proposes them."""

import argparse
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import fsseg

from fsseg.cli.main import COMMANDS
from fsseg.cli.parser import Parser


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh"):
        outcome = fsseg("completion", shell)
        assert outcome.code == 0, outcome.err
        (folder / shell).write_text(outcome.out, encoding="utf-8")
    return {shell: folder / shell for shell in ("bash", "zsh")}


def proposed(script: Path, *words: str) -> list[str]:
    """Return what bash proposes for the last word."""
    lines = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_fsseg; echo "${COMPREPLY[@]}"'
    command = ["bash", "--norc", "-c", lines, "bash", script, "fsseg", *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=script.parent)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ad"], ["adapt", "adapter"]),
        (["adapt", "--me"], ["--method"]),
        (["adapt", "--method", "lora"], ["lora", "lora:fseft", "lora_tucker"]),
        (["adapt", "--method", "lora", "--decoder", ""], ["frozen", "tuned"]),
        (["nnunet", "plans", "--te"], ["--test"]),
        (["nnunet", "plans", "--recipe", ""], ["default", "fseft", "arena", "medagi"]),
        (["pretrain", "--recipe", "s"], ["suprem"]),
        (["methods", "rec"], ["recipe"]),
        (["adapter", ""], ["show", "merge"]),
        (["predict", "--input", "z"], ["zsh"]),  # a file beside
        (["assemble", "btcv2_"], ["btcv2_pancreas", "btcv2_test"]),
        (["preprocess", "--plans", "seg"], ["seg_resnet"]),
        (["methods", "--plans", "z"], ["zsh"]),
    ],
)
def test_bash_proposes(scripts: dict[str, Path], words: list[str], expected: list[str]) -> None:
    assert proposed(scripts["bash"], *words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_option_of_every_command_is_known(scripts: dict[str, Path], shell: str) -> None:
    text = scripts[shell].read_text(encoding="utf-8")

    def options(parser: argparse.ArgumentParser) -> set[str]:
        parts = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        inner = [options(part) for action in parts for part in action.choices.values()]
        return {word for action in parser._actions for word in action.option_strings}.union(*inner)

    for name in COMMANDS:
        parser = Parser(prog=name)
        importlib.import_module(f"fsseg.cli.{name}").add_arguments(parser)
        assert name in text
        assert [option for option in options(parser) if option not in text] == []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_the_script(scripts: dict[str, Path]) -> None:
    subprocess.run(["zsh", "-n", scripts["zsh"]], check=True)


def test_help_stays_light() -> None:
    code = "import sys; from fsseg.cli.main import main\ntry: main([{}])\nexcept SystemExit: pass\n"
    for words in ("'--help'", "'completion', 'bash'"):
        check = code.format(words) + "print([name for name in ('torch', 'nnunetv2') if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, encoding="utf-8", check=True)
        assert done.stdout.splitlines()[-1] == "[]"
