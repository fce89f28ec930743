"""When two datasets define one structure differently: refuse, or do what the specs decide."""

from collections.abc import Sequence

from fsseg.config.errors import UsageError
from fsseg.data.specs import DatasetSpec


def resolved_names(specs: Sequence[DatasetSpec]) -> dict[str, dict[str, str]]:
    """Return spec name -> (structure in the spec -> structure in the assembly).

    A structure keeps its name, unless another dataset claims it too and this spec says `separate`: then it
    becomes `<structure>_<name of the spec in snake case>`.

    Raises:
        UsageError: a structure is defined differently and no spec decides; all of them in one message.
    """
    names = {spec.name: {structure: structure for structure in spec.annotated} for spec in specs}
    problems = []
    for structure in sorted({structure for spec in specs for structure in spec.annotated}):
        claiming = [spec for spec in specs if structure in spec.annotated]
        separate = [spec for spec in claiming if spec.conflicts.get(structure) == "separate"]
        if len(claiming) > 1:
            for spec in separate:
                names[spec.name][structure] = f"{structure}_{spec.snake_name}"
        problem = _disagreement(structure, [spec for spec in claiming if spec not in separate])
        if problem:
            problems.append(problem)
    if problems:
        raise UsageError(
            "The specs define structures differently:\n"
            + "\n".join(problems)
            + "\n  Decide it in one of these specs: `conflicts: {<structure>: same}` makes them one,"
            " `separate` gives that dataset's a channel of its own."
        )
    return names


def _disagreement(structure: str, specs: Sequence[DatasetSpec]) -> str | None:
    definitions = {" ".join(spec.definitions[structure].split()) for spec in specs if structure in spec.definitions}
    if len(definitions) < 2 or any(spec.conflicts.get(structure) == "same" for spec in specs):
        return None
    lines = [f"  - {structure}:"]
    lines += [f"      {spec.name}: {spec.definitions.get(structure, '(no definition)')}" for spec in specs]
    return "\n".join(lines)
