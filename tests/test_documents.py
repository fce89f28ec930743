"""README and docs: their commands parse, what they name exists, their links resolve, their sentences are short."""

import importlib
import itertools
import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY, fsseg
from documents import DOCS, DOCUMENTS, README, anchors, blocks, commands, inline_code, links, name_of, read, sentences
from documents import words_of_fsseg as words_of
from tiny import tiny_network

import fsseg as package
from fsseg.checkpoints.registry import FAMILIES
from fsseg.cli.main import COMMANDS
from fsseg.cli.parser import Parser
from fsseg.config.pretraining import RECIPES as PRETRAINING_RECIPES
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.published_recipes import RECIPES as ADAPTATION_RECIPES
from fsseg.config.recipes import Recipe
from fsseg.config.shipped_files import PLANS, SPECS
from fsseg.methods import registration
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.builtin import METHODS
from fsseg.methods.contract import Method
from fsseg.methods.registry import DEFAULT_METHOD, create_method, method_names

LONGEST_README, LONGEST_SENTENCE = 150, 40
OWN_SPECS = ("$nnUNet_raw/", "my_")  # of the demo's phantoms, and of a reader
PROGRAMS = [*(REPOSITORY / "scripts").glob("*.py"), *(REPOSITORY / "benchmarks").glob("*.py")]
OPTIONS_OF_OTHERS = {"--c", "--val", "--val_best", "--nproc-per-node"}  # of nnU-Net and torchrun
ALL_COMMANDS = sorted({(name_of(page), line) for page in DOCUMENTS for line in commands(page) if words_of(line)})
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


def parser_of(command: str) -> Parser:
    parser = Parser(exit_on_error=False)
    importlib.import_module(f"fsseg.cli.{command}").add_arguments(parser)
    return parser


def options_of(command: str) -> set[str]:
    """Return all options of a command, those of its actions among them."""
    actions = [*parser_of(command)._actions]
    for action in actions:
        if isinstance(action.choices, dict):
            actions += [each for parser in action.choices.values() for each in parser._actions]
    return {option for action in actions for option in action.option_strings}


def settings_of(words: list[str]) -> dict[str, str]:
    """Return what stands behind `--set`."""
    behind = words[words.index("--set") + 1 :] if "--set" in words else []
    return dict(word.split("=", 1) for word in behind if re.match(r"[a-z_.]+=", word))


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_command_parses(page: str, command: str) -> None:
    name, *words = words_of(command)
    assert name in COMMANDS
    prints_and_stops = {"--list", "--list-plans"} & set(words)
    with pytest.raises(SystemExit, match=r"^0$") if prints_and_stops else nullcontext():
        parser_of(name).parse_args(words)


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_what_a_command_names_exists(page: str, command: str) -> None:
    name, *words = words_of(command)
    known = {
        "--method": set(method_names()),
        "--recipe": set(PRETRAINING_RECIPES) if name == "pretrain" else set(ADAPTATION_RECIPES),
        "--family": set(FAMILIES),
    }
    for option, value in itertools.pairwise(words):
        assert option not in known or value in known[option]
        if option == "--plans":
            assert value in {*PLANS.files(), "auto"} or (REPOSITORY / value).is_file()
    if name == "assemble":
        specs = itertools.takewhile(lambda word: not word.startswith("-"), words)
        assert all(spec.startswith(OWN_SPECS) or spec in SPECS.files() for spec in specs)
    for word in words:
        assert not word.startswith(("dataset_specs/", "plans/", "fsseg/")) or (REPOSITORY / word).is_file()


@pytest.mark.parametrize(("page", "command"), [entry for entry in ALL_COMMANDS if " --set " in entry[1]])
def test_settings_of_a_command_exist(page: str, command: str) -> None:
    name, *words = words_of(command)
    settings = settings_of(words)
    if name == "pretrain":
        assert set(settings) <= set(PretrainSettings.model_fields)
        return
    method = words[words.index("--method") + 1] if "--method" in words else DEFAULT_METHOD
    of_recipe = {key.removeprefix("recipe.") for key in settings if key.startswith("recipe.")}
    assert of_recipe <= set(Recipe.model_fields)
    assert {key for key in settings if "." not in key} <= set(create_method(method).Options.model_fields)


def test_readme_shows_the_whole_way() -> None:
    shown = [words_of(line)[0] for line in commands(README) if words_of(line)]
    assert shown == ["demo", "assemble", "preprocess", "pretrain", "adapt", "predict", "evaluate"]


@every_document
def test_options_in_the_text_exist(document: Path) -> None:
    of_commands = {name: options_of(name) for name in COMMANDS}
    every = set().union(*of_commands.values(), OPTIONS_OF_OTHERS) | {"--help", "--version", "--debug"}
    for code in inline_code(read(document)):
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
        words = code.split()
        if code.startswith("fsseg ") and words[1] in COMMANDS:
            assert options <= of_commands[words[1]], code
        elif code.startswith("python "):
            program = read(REPOSITORY / words[1])
            assert all(f'"{option}"' in program for option in options), code
        else:
            assert options <= every | {found for program in PROGRAMS for found in options_in(program)}, code


def options_in(program: Path) -> set[str]:
    return set(re.findall(r'"(--[a-z][\w-]*)"', read(program)))


def test_every_command_method_and_family_is_in_the_docs() -> None:
    text = "\n".join(map(read, [README, *DOCS]))
    missing = [f"fsseg {name}" for name in COMMANDS if f"fsseg {name}" not in text]
    missing += [name for name in (*method_names(), *FAMILIES) if not re.search(rf"\b{re.escape(name)}\b", text)]
    assert not missing


@every_document
def test_links_resolve(document: Path) -> None:
    for link in links(read(document)):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_the_docs_is_reached_from_the_readme() -> None:
    reached = {link.partition("#")[0] for link in links(read(README))}
    assert {name_of(page) for page in DOCS} <= reached


@every_document
def test_sentences_are_short(document: Path) -> None:
    long = [sentence for sentence in sentences(read(document)) if len(sentence.split()) > LONGEST_SENTENCE]
    assert not long


def test_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= LONGEST_README


@every_document
def test_paths_in_the_text_exist(document: Path) -> None:
    """Of files of the repository; `*` stands for any part of a name."""
    for code in inline_code(read(document)):
        if re.match(r"(fsseg|tests|plans|scripts|benchmarks|docs|dataset_specs)/[\w./*-]*$", code):
            assert list(REPOSITORY.glob(code.rstrip("/"))), code


def test_methods_page_shows_what_methods_prints_but_for_reasons() -> None:
    (shown,) = (code for code in blocks(read(REPOSITORY / "docs" / "methods.md"), "text") if code.startswith("method "))
    header, rule, *lines = fsseg("methods", "--plans", REPOSITORY / "plans" / "headneck_cpu.json").out.splitlines()
    lines = [re.sub(r"(not defined) .*", r"\1", line) for line in lines[: lines.index("")]]  # then: where to start
    last = rule.rindex(" ") + 1  # the rule is as long as the longest description that is left
    rows = [line for line in lines if len(line) > last and line[last - 2 : last] == "  "]
    rule = rule[: max(map(len, rows))]
    assert shown.splitlines() == [header, rule, *lines]


def test_method_of_the_page_on_methods_trains_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "_registered", {})
    code = blocks(read(REPOSITORY / "docs" / "adding_a_method.md"), "python")[0]
    exec(code, {"__name__": "a_notebook"})
    adapted = AdaptedNetwork(tiny_network("plain"), create_method("upsampling"), "frozen")
    trained = {name for name in adapted.trainable() if "seg_layers" not in name}
    transposed = {
        name for name, module in adapted.network.named_modules() if isinstance(module, torch.nn.ConvTranspose3d)
    }
    assert trained == {f"{name}.weight" for name in transposed}


@pytest.mark.parametrize("document", [README, *DOCS], ids=name_of)
def test_names_of_the_python_api_exist(document: Path) -> None:
    text = "\n".join([*blocks(read(document), "python"), *inline_code(read(document))])
    used = set(re.findall(r"\bfsseg\.(\w+)", text)) - {path.stem for path in (REPOSITORY / "fsseg").iterdir()}
    assert used <= set(package.__all__)


def test_own_loop_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (code for code in blocks(read(REPOSITORY / "docs" / "python.md"), "python") if "apply_method" in code)
    monkeypatch.chdir(tmp_path)
    batches = [(torch.zeros(1, 1, 32, 32, 32), torch.zeros(1, 32, 32, 32, dtype=torch.long))]
    names = {"batches": batches, "criterion": torch.nn.functional.cross_entropy}
    exec(code, names)
    assert (tmp_path / "adapter.safetensors").is_file()
    assert names["network"](batches[0][0]).shape == (1, 2, 32, 32, 32)  # type: ignore[operator]


def test_hooks_on_the_page_on_methods_are_those_of_the_contract() -> None:
    page = read(REPOSITORY / "docs" / "adding_a_method.md")
    table = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert table == {name for name in vars(Method) if name == "Options" or callable(getattr(Method, name))} - {
        "__init__"
    }


def test_rooms_in_contributing_are_the_packages() -> None:
    rows = re.findall(r"^\| (`.*?) \|", read(REPOSITORY / "CONTRIBUTING.md").split("\n## Rooms\n")[1], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    packages = {path.parent.name for path in (REPOSITORY / "fsseg").glob("*/__init__.py")} - {"nnunet_trainers"}
    assert named - {"api"} == packages


def test_citation_has_the_version_and_licence_of_the_package() -> None:
    citation = yaml.safe_load(read(REPOSITORY / "CITATION.cff"))
    assert citation["version"] == package.__version__
    assert citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_python_scripts_in_the_docs_take_their_options() -> None:
    for document in DOCUMENTS:
        for line in commands(document):
            words = shlex.split(line, comments=True)
            if words[0] == "python":
                assert {word for word in words if word.startswith("--")} <= options_in(REPOSITORY / words[1])


def test_all_methods_are_grouped_on_their_page() -> None:
    text = read(REPOSITORY / "docs" / "methods.md").split("\n## All methods\n")[1]
    grouped = {code for code in inline_code(text) if code in METHODS}
    assert grouped == set(METHODS)
