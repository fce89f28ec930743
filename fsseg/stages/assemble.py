"""Join partially labelled datasets into one nnU-Net raw dataset; data that would mislead are refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import FssegError, UsageError, listed_problems
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.progress import Progress
from fsseg.config.run_folder import new_run_folder
from fsseg.data.assemble_report import Joined, assemble_report
from fsseg.data.assembly import (
    Combinations,
    dataset_json,
    paintable,
    painting_order,
    register_spec,
    require_representable,
)
from fsseg.data.case_files import CaseFiles, contradictions, find_cases, no_case_found
from fsseg.data.case_labels import CaseReader, LabelledCase
from fsseg.data.conflicts import Channels, half_defined, resolved_names
from fsseg.data.joined_files import case_hashes, write_case
from fsseg.data.spec_loading import load_specs
from fsseg.data.specs import DatasetSpec
from fsseg.data.structures import Structures
from fsseg.nnunet.environment import dataset_id_of, folders_of_number, raw_folder


class AssembleConfig(StrictModel):
    """What to assemble.

    Attributes:
        specs: spec files.
        root: folder in which the folders of the specs lie.
        dataset_id: nnU-Net's number of the new dataset.
        name: name of the new dataset.
        channels: `merged` makes one structure of what several datasets name alike, `per_dataset` keeps every
            structure of every dataset apart.
        repair: copy images that ITK, nnU-Net's usual reader, does not read, with axes at right angles.
        check: only report; nothing is written, and without data the specs alone are checked.
    """

    specs: tuple[Path, ...] = Field(min_length=1)
    root: Path | None = None
    dataset_id: int | None = Field(default=None, ge=1, le=999)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    channels: Channels = "merged"
    repair: bool = False
    check: bool = False


def run_assemble(config: AssembleConfig) -> dict[str, Any]:
    """Check the specs and the data and, unless only a check is asked for, write the joined dataset.

    Returns:
        The content of the manifest; `report` in it tells cases, structures, exclusions and warnings.

    Raises:
        UsageError: the specs or the target are wrong.
        FssegError: the data are wrong; all problems of all cases in one message, and nothing is written.
    """
    specs = load_specs(config.specs)
    names = resolved_names(specs, config.channels)
    manifest = Manifest("assemble", config.model_dump(mode="json"))
    manifest.add_inputs(config.specs)
    if config.check:
        joined = _join(specs, names, _folders(specs, config.root, required=False), None, repair=config.repair)
        manifest.add(report=assemble_report(specs, names, joined, _structures(specs, names, joined)))
        return manifest.content
    target = _target(config)
    folders = _folders(specs, config.root, required=True)
    # One place for all names: two datasets of one number would be made at once.
    with new_run_folder(target, place=target.with_name(f"assemble_{target.name.partition('_')[0]}")) as staging:
        _require_free(target)  # another process may have just completed one
        joined = _join(specs, names, folders, staging, repair=config.repair)
        structures = _structures(specs, names, joined)
        structures.save(staging)
        write_json(staging / "dataset.json", dataset_json(structures, specs, target.name))
        manifest.add(
            out=str(target),
            report=assemble_report(specs, names, joined, structures),
            case_sha256=joined.hashes,
        )
        return manifest.write(staging)


def _target(config: AssembleConfig) -> Path:
    needed = {"--root": config.root, "--id": config.dataset_id, "--name": config.name}
    missing = [option for option, value in needed.items() if value is None]
    if missing:
        raise UsageError(
            f"Missing: {', '.join(missing)}\n  They are needed to write a dataset; --check alone needs none."
        )
    target = raw_folder() / f"Dataset{config.dataset_id:03d}_{config.name}"
    _require_free(target)
    return target


def _require_free(target: Path) -> None:
    taken = folders_of_number(dataset_id_of(target), but=target.name)
    if taken:
        raise UsageError(
            f"The number {dataset_id_of(target)} is taken by {taken[0]}\n"
            "  A dataset is never overwritten, and nnU-Net takes one name a number. Choose another --id, or delete that"
            " folder."
        )


def _folders(specs: Sequence[DatasetSpec], root: Path | None, *, required: bool) -> dict[str, Path]:
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


def _join(
    specs: Sequence[DatasetSpec],
    names: dict[str, dict[str, str]],
    folders: dict[str, Path],
    staging: Path | None,
    *,
    repair: bool,
) -> Joined:
    joined = Joined(Combinations(), warnings=half_defined(specs, names))
    for spec in specs:
        register_spec(joined.combinations, spec, names[spec.name])
    require_representable(len(joined.combinations))
    cases = list(_cases(specs, folders, joined))
    with Progress("assemble", len(cases), "case") as progress:
        for spec, files in progress.over(cases):
            labelled = CaseReader(spec, names[spec.name], joined.combinations, repair=repair).read(files)
            _add(joined, f"{spec.name}_{files.case}", files, labelled)
            if staging and not joined.problems:
                write_case(staging, f"{spec.name}_{files.case}", files, labelled)
    _refuse(joined.problems, len(cases))
    return joined


def _cases(
    specs: Sequence[DatasetSpec], folders: dict[str, Path], joined: Joined
) -> Iterator[tuple[DatasetSpec, CaseFiles]]:
    for spec in specs:
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


def _structures(specs: Sequence[DatasetSpec], names: dict[str, dict[str, str]], joined: Joined) -> Structures:
    wished = list(dict.fromkeys(names[spec.name][structure] for spec in specs for structure in spec.annotated))
    regions = paintable(
        joined.combinations.regions(painting_order(joined.cases.values(), wished)), len(joined.combinations)
    )
    require_representable(max(map(max, regions.values()), default=0))
    cases = {case: annotation.subset(regions) for case, annotation in joined.cases.items()}
    duplicates = tuple(tuple(same) for same in joined.images.values() if len(same) > 1)
    return Structures(integers=regions, cases=cases, duplicates=duplicates)
