"""The report of an assembly: sources, structures, exclusions and warnings."""

from collections import Counter
from dataclasses import dataclass

from fsseg.config.results import Result
from fsseg.data.joining import Joined, Sources
from fsseg.data.structures import Structures


@dataclass(frozen=True)
class SourceReport:
    """A dataset that was joined.

    Attributes:
        dataset_id: its number, if it has one.
        cases: how many it gives.
        excluded: case -> why it is left out.
        licence: of the data.
        known_issues: what the spec warns of.
        renamed: structure in the spec -> its name in the joined dataset, where they differ.
    """

    dataset_id: int | None
    cases: int
    excluded: dict[str, str]
    licence: str
    known_issues: tuple[str, ...]
    renamed: dict[str, str]


@dataclass(frozen=True)
class StructureReport:
    """A structure of the joined dataset.

    Attributes:
        integers: that stand for it in the label maps.
        cases_annotating, cases_containing, cases_unannotated: in how many cases its truth is known, how many show it,
            and how many leave it unknown.
    """

    integers: tuple[int, ...]
    cases_annotating: int
    cases_containing: int
    cases_unannotated: int


@dataclass(frozen=True)
class AssembleReport(Result):
    """What was joined.

    Attributes:
        cases: how many the joined dataset has.
        sources: name of the spec -> what it gives.
        structures: structures that have a channel.
        integers: integer of the label maps -> the structures that it stands for.
        left_out: structure without a channel -> why.
        pairs: how many left-right pairs were checked, and how many could not be.
        warnings: what is worth knowing.
    """

    cases: int
    sources: dict[str, SourceReport]
    structures: dict[str, StructureReport]
    integers: dict[int, tuple[str, ...]]
    left_out: dict[str, str]
    pairs: dict[str, int]
    warnings: tuple[str, ...]


def assemble_report(sources: Sources, joined: Joined, structures: Structures) -> AssembleReport:
    """Return the report of an assembly.

    Args:
        sources: the source datasets.
        joined: what the cases add up to.
        structures: the structures of the assembly.
    """
    annotating = Counter(name for annotation in joined.cases.values() for name in annotation.annotated)
    return AssembleReport(
        cases=len(structures.cases),
        sources=_sources(sources, structures),
        structures={
            name: StructureReport(
                integers=integers,
                cases_annotating=annotating[name],
                cases_containing=joined.containing[name],
                cases_unannotated=len(structures.cases) - annotating[name],
            )
            for name, integers in structures.integers.items()
        },
        integers={integer: tuple(members) for integer, members in joined.combinations.listing().items()},
        left_out=_left_out(sources, structures, joined, annotating),
        pairs=dict(joined.pairs),
        warnings=(*joined.warnings, *_cut_by_others(structures)),
    )


def _sources(sources: Sources, structures: Structures) -> dict[str, SourceReport]:
    cases = Counter(annotation.source for annotation in structures.cases.values())
    return {
        spec.name: SourceReport(
            dataset_id=spec.dataset_id,
            cases=cases[spec.name],
            excluded=spec.exclude,
            licence=spec.licence,
            known_issues=tuple(spec.known_issues),
            renamed={old: new for old, new in sources.names[spec.name].items() if old != new},
        )
        for spec in sources.specs
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


def _left_out(sources: Sources, structures: Structures, joined: Joined, annotating: Counter[str]) -> dict[str, str]:
    names = sources.names
    claimed = dict.fromkeys(new for mapping in names.values() for new in mapping.values())
    read = {new for source in joined.read for new in names[source].values()}
    reasons = {}
    for name in claimed:
        if name not in structures.integers:
            reasons[name] = "annotated in no case" if name in read else "numbered when its masks are read"
            if annotating[name]:
                reasons[name] = "empty in every case"
    return reasons
