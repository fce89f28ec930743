"""Reading dataset specs: all mistakes of all specs of an assembly come in one message."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from fsseg.config.base import load_yaml, validated
from fsseg.config.errors import UsageError, listed_errors, shown
from fsseg.config.shipped_files import SPECS, find_file
from fsseg.data.spec_checks import problems_of_spec
from fsseg.data.specs import DatasetSpec


def load_spec(path: Path) -> DatasetSpec:
    """Read and check one spec; `path` may be the name of a shipped one.

    Raises:
        UsageError: the file is missing, no YAML, or says something wrong; all problems in one message.
    """
    path = find_file(path, SPECS)
    values = load_yaml(path)
    spec = validated(DatasetSpec, values, str(path))
    problems = _duplicate_keys(path) + problems_of_spec(spec)
    if problems:
        raise UsageError(listed_errors(problems, str(path)))
    return spec


def load_specs(paths: Sequence[Path]) -> tuple[DatasetSpec, ...]:
    """Read the specs of one assembly.

    Raises:
        UsageError: any spec is wrong (all problems of all specs in one message), two share a name or a
            folder, or their modalities differ.
    """
    specs: list[DatasetSpec] = []
    problems: list[str] = []
    for path in paths:
        try:
            specs.append(load_spec(path))
        except UsageError as error:
            problems.append(str(error))
    problems += _clashes(specs)
    if problems:
        raise UsageError("\n".join(problems))
    return tuple(specs)


def _clashes(specs: Sequence[DatasetSpec]) -> list[str]:
    names = [spec.name for spec in specs]
    problems = [
        f"Two specs have the name {name!r}; give each spec once, with a name of its own."
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    places = [(spec.folder, spec.layout) for spec in specs]
    problems += [
        f"Two specs have the folder {folder!r} and the same layout, so they read the same files; give each spec once."
        for folder, layout in dict.fromkeys(places)
        if places.count((folder, layout)) > 1
    ]
    if len({spec.modality.casefold() for spec in specs}) > 1:
        listing = ", ".join(f"{spec.name}: {spec.modality}" for spec in specs)
        problems.append(
            f"The modalities differ ({listing}).\n"
            "  One network reads one modality: assemble CT and MR datasets separately."
        )
    return problems


def _duplicate_keys(path: Path) -> list[str]:
    # YAML readers keep the last of two equal keys and say nothing; in `labels` that loses a structure.
    # The file was read before, within its bounds: its keys are plain, and its aliases stand for no more than it may.
    problems: list[str] = []
    nodes = [("", yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))]
    while nodes:
        prefix, node = nodes.pop()
        if not isinstance(node, yaml.MappingNode):
            continue
        keys = [key.value for key, _ in node.value]
        problems += [f"key {prefix}{shown(key)[1:-1]} occurs twice" for key in sorted(set(keys)) if keys.count(key) > 1]
        nodes += [(f"{prefix}{key.value}.", value) for key, value in node.value]
    return problems
