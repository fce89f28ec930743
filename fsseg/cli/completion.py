"""Print a script that lets the shell complete commands, options and their values with the Tab key."""

import argparse
import importlib
import sys
from collections.abc import Iterator

from fsseg.cli.parser import Parser
from fsseg.config.shipped_files import PLANS, SPECS

EXAMPLES = """examples:
  eval "$(fsseg completion bash)"                       # in ~/.bashrc; slower to start a shell than a file
  fsseg completion bash > ~/.local/share/bash-completion/completions/fsseg
  fsseg completion zsh > ~/.zfunc/_fsseg                # with fpath+=~/.zfunc before compinit in ~/.zshrc
"""
SHELLS = ("bash", "zsh")

# Options without listed values that take files or folders, by their names in the code; for others nothing is proposed.
_PATHS = {
    "adapter",
    "base",
    "checkpoint",
    "file",
    "input",
    "out",
    "output",
    "pool",
    "prediction",
    "reference",
    "root",
    "run",
    "test",
}
# Options that take a file or the name of a shipped one.
_NAMED = {"plans": PLANS, "specs": SPECS}
# Shell functions that propose both.
_FUNCTIONS = {
    "bash": '_fsseg_{kind}() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "_fsseg_{kind}() {{ _alternative 'names:shipped:({names})' 'files:file:_files' }}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shell", choices=SHELLS, help="the shell to make it for")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    parser = _whole_parser()
    functions = "\n".join(_FUNCTIONS[arguments.shell].format(**values) for values in _named_files())
    sys.stdout.write(shtab.complete(parser, arguments.shell, preamble=functions) + "\n")
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """Build one parser of all commands; to run a command, only its own is built."""
    from fsseg.cli.main import COMMANDS

    parser = Parser(prog="fsseg")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        importlib.import_module(f"fsseg.cli.{name}").add_arguments(command)
        command.add_argument("--debug", action="store_true", help="add the traceback to an error")
        for action in _actions(command):
            _say_values(action, name)
    return parser


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a command and of its actions, such as `show` of `fsseg adapter`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from _actions(part)
        else:
            yield action


def _say_values(action: argparse.Action, command: str) -> None:
    """Tell the names that an argument takes where the parser leaves the check to others, or that it is a file."""
    import shtab

    from fsseg.methods.registry import method_names

    if action.choices is None and action.nargs != 0:
        if action.dest == "method" or (command, action.dest) == ("methods", "name"):
            action.choices = [*method_names(), *(["recipe"] if command == "methods" else [])]
        elif action.dest == "recipe":
            action.choices = _recipes(command)
        elif action.dest in _NAMED:
            action.complete = dict.fromkeys(SHELLS, f"_fsseg_{action.dest}")  # type: ignore[attr-defined]
        elif action.dest in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def _named_files() -> Iterator[dict[str, str]]:
    """Yield what the shell functions are filled with."""
    for kind, shipped in _NAMED.items():
        yield {"kind": kind, "names": " ".join([*(["auto"] if kind == "plans" else []), *shipped.files()])}


def _recipes(command: str) -> list[str]:
    from fsseg.config import pretraining, published_recipes

    return list(pretraining.RECIPES if command == "pretrain" else published_recipes.RECIPES)
