"""What an assembly found, and its report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fsseg.data.assembly import Combinations
from fsseg.data.specs import DatasetSpec
from fsseg.data.structures import CaseAnnotation, Structures


@dataclass
class Joined:
    """What the cases of all sources add up to.

    Attributes:
        combinations: the integers and what they stand for.
        cases: case of the assembly -> what it annotates.
        containing: structure -> number of cases in which it occurs.
        hashes: case -> SHA-256 of its image and of its labels.
        images: hash of an image's voxels -> the cases that have it.
        read: names of the specs whose data were there.
        problems: what forbids the assembly.
        warnings: what is worth knowing.
        pairs: how many left-right pairs were checked, and how many could not be.
    """

    combinations: Combinations
    cases: dict[str, CaseAnnotation] = field(default_factory=dict)
    containing: Counter[str] = field(default_factory=Counter)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    images: dict[str, list[str]] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pairs: Counter[str] = field(default_factory=Counter)


def assemble_report(
    specs: Sequence[DatasetSpec], names: dict[str, dict[str, str]], joined: Joined, structures: Structures
) -> dict[str, Any]:
    """Return the report of an assembly as plain JSON values: sources, structures, exclusions and warnings.

    Args:
        specs: the source datasets.
        names: spec name -> (structure in the spec -> structure in the assembly).
        joined: what the cases add up to.
        structures: the structures of the assembly.
    """
    annotating = Counter(name for annotation in joined.cases.values() for name in annotation.annotated)
    sources = Counter(annotation.source for annotation in structures.cases.values())
    return {
        "cases": len(structures.cases),
        "sources": {
            spec.name: {
                "dataset_id": spec.dataset_id,
                "cases": sources[spec.name],
                "excluded": spec.exclude,
                "licence": spec.licence,
                "known_issues": list(spec.known_issues),
                "renamed": {old: new for old, new in names[spec.name].items() if old != new},
            }
            for spec in specs
        },
        "structures": {
            name: {
                "integers": list(integers),
                "cases_annotating": annotating[name],
                "cases_containing": joined.containing[name],
                "cases_unannotated": len(structures.cases) - annotating[name],
            }
            for name, integers in structures.integers.items()
        },
        "integers": {str(integer): list(members) for integer, members in joined.combinations.listing().items()},
        "left_out": _left_out(names, structures, joined, annotating),
        "pairs": dict(joined.pairs),
        "warnings": [*joined.warnings, *_cut_by_others(structures)],
    }


def _cut_by_others(structures: Structures) -> list[str]:
    """Say which structures a prediction will show without the part that they share with a later one.

    nnU-Net paints a voxel with one integer, so of two structures that overlap, and of which none contains the other,
    the one that is painted later stands alone where both are.
    """
    cut: dict[str, list[str]] = {}
    for earlier, later in structures.overlapping():
        if not set(structures.integers[later]) <= set(structures.integers[earlier]):
            cut.setdefault(later, []).append(earlier)
    return [
        f"where a prediction has {later}, it has no {' and no '.join(earlier)}: they overlap, none contains the other, "
        "and nnU-Net paints one label a voxel"
        for later, earlier in cut.items()
    ]


def _left_out(
    names: dict[str, dict[str, str]], structures: Structures, joined: Joined, annotating: Counter[str]
) -> dict[str, str]:
    claimed = dict.fromkeys(new for mapping in names.values() for new in mapping.values())
    read = {new for source in joined.read for new in names[source].values()}
    reasons = {}
    for name in claimed:
        if name not in structures.integers:
            reasons[name] = "annotated in no case" if name in read else "numbered when its masks are read"
            if annotating[name]:
                reasons[name] = "empty in every case"
    return reasons
