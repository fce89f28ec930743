"""Joining the cases of partially labelled datasets: all are checked, and one bad case refuses the whole."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsseg.config.errors import FssegError, UsageError, first_of, listed_problems
from fsseg.config.progress import Progress
from fsseg.data.assembly import Combinations, paintable, painting_order, register_spec, require_representable
from fsseg.data.case_files import CaseFiles, contradictions, find_cases, no_case_found
from fsseg.data.case_labels import CaseReader, LabelledCase
from fsseg.data.conflicts import half_defined
from fsseg.data.joined_files import case_hashes, write_case
from fsseg.data.specs import DatasetSpec
from fsseg.data.structures import CaseAnnotation, Structures

_MOST_NAMES = 10


@dataclass(frozen=True)
class Sources:
    """The datasets to join.

    Attributes:
        specs: what each of them is.
        names: name of the spec -> (structure in the spec -> structure in the joined dataset).
        folders: name of the spec -> folder of its data, of those that are there.
    """

    specs: Sequence[DatasetSpec]
    names: Mapping[str, Mapping[str, str]]
    folders: Mapping[str, Path]


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


def source_folders(specs: Sequence[DatasetSpec], root: Path | None, *, required: bool) -> dict[str, Path]:
    """Return the folder of each dataset by the name of its spec, of those that are there.

    Args:
        specs: the datasets.
        root: the folder that holds their folders; None for none.
        required: whether each must be there.

    Raises:
        UsageError: `root` is no folder, or a required one is missing.
    """
    if root and not root.is_dir():
        raise UsageError(
            f"Folder not found: {root}\n"
            "  Give the folder that holds the datasets as --root; --check without it checks the specs alone."
        )
    folders = {spec.name: root / spec.folder for spec in specs} if root else {}
    absent = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if absent and required:
        listing = "\n".join(f"  - {folder}" for folder in absent)
        raise UsageError(f"Dataset folder not found:\n{listing}\n  Give the folder that holds them as --root.")
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def join(sources: Sources, staging: Path | None, *, repair: bool, only: Sequence[str] | None = None) -> Joined:
    """Check every case and, where a folder is given, write it.

    Args:
        sources: the datasets.
        staging: folder of the joined dataset; None only checks.
        repair: copy images that ITK does not read, with axes at right angles.
        only: cases to take, by their names in the joined dataset; None takes all.

    Raises:
        UsageError: a case to take is not there.
        FssegError: problems, all of them in one message.
    """
    specs, names = sources.specs, sources.names
    joined = Joined(Combinations(), warnings=half_defined(specs, names))
    for spec in specs:
        register_spec(joined.combinations, spec, names[spec.name])
    require_representable(len(joined.combinations))
    cases = _chosen(list(_cases(sources, joined)), only)
    with Progress("assemble", len(cases), "case") as progress:
        for spec, files in progress.over(cases):
            labelled = CaseReader(spec, names[spec.name], joined.combinations, repair=repair).read(files)
            _add(joined, f"{spec.name}_{files.case}", files, labelled)
            if staging and not joined.problems:
                write_case(staging, f"{spec.name}_{files.case}", files, labelled)
    _refuse(joined.problems, len(cases))
    return joined


def joined_structures(sources: Sources, joined: Joined) -> Structures:
    """Return what the integers of the joined dataset mean, and what each case annotates."""
    specs, names = sources.specs, sources.names
    wished = list(dict.fromkeys(names[spec.name][structure] for spec in specs for structure in spec.annotated))
    regions = paintable(
        joined.combinations.regions(painting_order(joined.cases.values(), wished)), len(joined.combinations)
    )
    require_representable(max(map(max, regions.values()), default=0))
    cases = {case: annotation.subset(regions) for case, annotation in joined.cases.items()}
    duplicates = tuple(tuple(same) for same in joined.images.values() if len(same) > 1)
    return Structures(integers=regions, cases=cases, duplicates=duplicates)


def _cases(sources: Sources, joined: Joined) -> Iterator[tuple[DatasetSpec, CaseFiles]]:
    folders = sources.folders
    for spec in sources.specs:
        if spec.name not in folders:
            joined.warnings.append(f"{spec.name}: no data folder, so only the spec was checked")
            continue
        joined.read.add(spec.name)
        joined.problems += [f"{spec.name}: {text}" for text in contradictions(spec, folders[spec.name])]
        found = find_cases(spec, folders[spec.name])
        joined.problems += [f"{spec.name}: {text}" for text in found.problems]
        joined.warnings += [f"{spec.name}: {text}" for text in found.warnings]
        cases = found.cases
        excluded = set(spec.exclude).difference(files.case for files in cases)
        joined.warnings += [f"{spec.name}: excluded case {case!r} does not exist" for case in sorted(excluded)]
        if not cases:
            joined.problems.append(f"{spec.name}: {no_case_found(spec, folders[spec.name])}")
        yield from ((spec, files) for files in cases if files.case not in spec.exclude)


def _chosen(
    cases: Sequence[tuple[DatasetSpec, CaseFiles]], only: Sequence[str] | None
) -> list[tuple[DatasetSpec, CaseFiles]]:
    if only is None:
        return list(cases)
    there = {f"{spec.name}_{files.case}": (spec, files) for spec, files in cases}
    absent = [case for case in dict.fromkeys(only) if case not in there]
    if absent:
        raise UsageError(
            f"{len(absent)} of the {len(set(only))} cases that were asked for are not there:"
            f" {first_of(absent, _MOST_NAMES)}\n  Are the data complete, and of the version that the spec names?"
        )
    return [there[case] for case in there if case in set(only)]


def _add(joined: Joined, case: str, files: CaseFiles, labelled: LabelledCase) -> None:
    joined.problems += [f"{case}: {problem}" for problem in labelled.problems]
    joined.warnings += [f"{case}: {warning}" for warning in labelled.warnings]
    if labelled.problems or labelled.annotation is None:
        return
    joined.cases[case] = labelled.annotation
    joined.containing.update(labelled.contained)
    joined.hashes[case] = case_hashes(files)
    same = joined.images.setdefault(labelled.voxels, [])
    if same:
        joined.warnings.append(f"{case}: same image as {same[0]}; keep both on one side of any split, as fsseg does")
    same.append(case)
    joined.pairs["checked"] += labelled.pairs_checked
    joined.pairs["not checkable (one side only)"] += labelled.pairs_not_checkable


def _refuse(problems: list[str], cases: int) -> None:
    if not problems:
        return
    raise FssegError(
        f"{listed_problems(problems, f'{cases} cases')}\n"
        "  Correct the files or the spec, or name a case with a reason under `exclude` in its spec."
    )
