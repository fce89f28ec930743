"""Which structures of several datasets are one; what is defined differently is refused unless a spec decides."""

from collections.abc import Mapping, Sequence
from typing import Literal

from fsseg.config.errors import UsageError
from fsseg.data.specs import DatasetSpec
from fsseg.data.structures import SEPARATOR

Channels = Literal["merged", "per_dataset"]


def resolved_names(specs: Sequence[DatasetSpec], channels: Channels = "merged") -> dict[str, dict[str, str]]:
    """Return spec name -> (structure in the spec -> structure in the assembly).

    Args:
        specs: the specs of one assembly.
        channels: `merged` makes one structure of what several datasets name alike, as SuPreM does. A spec that says
            `separate` keeps its own, which becomes `<name of the spec in snake case>__<structure>`. `per_dataset` does
            so with every structure, as MultiTalent does; then no definitions can conflict.

    Raises:
        UsageError: a structure is defined differently and no spec decides; all of them in one message.
    """
    names = {spec.name: {structure: structure for structure in spec.annotated} for spec in specs}
    problems = []
    for structure in sorted({structure for spec in specs for structure in spec.annotated}):
        claiming = [spec for spec in specs if structure in spec.annotated]
        separate = [spec for spec in claiming if _is_separate(spec, structure, claiming, channels)]
        for spec in separate:
            names[spec.name][structure] = f"{spec.snake_name}{SEPARATOR}{structure}"
        problem = _disagreement(structure, [spec for spec in claiming if spec not in separate])
        if problem:
            problems.append(problem)
    if problems:
        raise UsageError(
            "The specs define structures differently:\n"
            + "\n".join(problems)
            + "\n  Decide it in one of these specs: `conflicts: {<structure>: same}` makes them one,"
            " `separate` gives that dataset's a channel of its own. Or give every structure of every dataset a channel"
            " of its own with `--channels per_dataset`."
        )
    return names


def half_defined(specs: Sequence[DatasetSpec], names: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a warning for each structure of several specs of which only some say what exactly it is.

    Args:
        specs: the specs of one assembly.
        names: spec name -> (structure in the spec -> structure in the assembly).
    """
    claims: dict[str, list[tuple[DatasetSpec, str]]] = {}
    for spec in specs:
        for structure, joined in names[spec.name].items():
            claims.setdefault(joined, []).append((spec, structure))
    return [warning for joined in sorted(claims) if (warning := _half_defined(joined, claims[joined]))]


def _half_defined(joined: str, claims: Sequence[tuple[DatasetSpec, str]]) -> str | None:
    stated = {spec.name: spec.definitions.get(structure) for spec, structure in claims}
    definitions = [text for text in stated.values() if text]
    if not definitions or all(stated.values()) or any(spec.conflicts.get(own) == "same" for spec, own in claims):
        return None
    defining, silent = ([name for name, text in stated.items() if bool(text) is given] for given in (True, False))
    return (
        f"{joined} of {', '.join(defining)} ({' '.join(definitions[0].split())}) is one structure with that of"
        f" {', '.join(silent)}, where no definition is given; `conflicts:` in a spec makes it `same` or `separate`"
    )


def _is_separate(spec: DatasetSpec, structure: str, claiming: Sequence[DatasetSpec], channels: Channels) -> bool:
    if channels == "per_dataset":
        return True
    return len(claiming) > 1 and spec.conflicts.get(structure) == "separate"


def _disagreement(structure: str, specs: Sequence[DatasetSpec]) -> str | None:
    definitions = {" ".join(spec.definitions[structure].split()) for spec in specs if structure in spec.definitions}
    if len(definitions) < 2 or any(spec.conflicts.get(structure) == "same" for spec in specs):
        return None
    lines = [f"  - {structure}:"]
    lines += [f"      {spec.name}: {spec.definitions.get(structure, '(no definition)')}" for spec in specs]
    return "\n".join(lines)
