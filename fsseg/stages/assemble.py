"""Stage: join partially labelled datasets into one nnU-Net raw dataset; data that would mislead are refused."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.results import WrittenResult
from fsseg.config.run_folder import new_run_folder
from fsseg.config.shipped_files import SPECS, find_file
from fsseg.data.assemble_report import AssembleReport, assemble_report
from fsseg.data.assembly import dataset_json
from fsseg.data.conflicts import Channels, resolved_names
from fsseg.data.joining import Sources, join, joined_structures, source_folders
from fsseg.data.spec_loading import load_specs
from fsseg.nnunet.environment import dataset_id_of, folders_of_number, raw_folder


class AssembleConfig(StrictModel):
    """What to assemble.

    Attributes:
        specs: spec files, or names of shipped ones.
        root: folder in which the folders of the specs lie.
        dataset_id: nnU-Net's number of the new dataset.
        name: name of the new dataset.
        channels: `merged` makes one structure of what several datasets name alike, `per_dataset` keeps every
            structure of every dataset apart.
        repair: copy images that ITK, nnU-Net's usual reader, does not read, with axes at right angles.
        cases: cases to take, by their names in the new dataset; None takes all.
        check: only report; nothing is written, and without data the specs alone are checked.
    """

    specs: tuple[Path, ...] = Field(min_length=1)
    root: Path | None = None
    dataset_id: int | None = Field(default=None, ge=1, le=999)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    channels: Channels = "merged"
    repair: bool = False
    cases: tuple[str, ...] | None = Field(default=None, min_length=1)
    check: bool = False


@dataclass(frozen=True)
class AssembleResult(WrittenResult):
    """What was assembled.

    Attributes:
        out: the dataset's folder in nnUNet_raw; None where only a check was asked for.
        report: cases, structures, exclusions and warnings.
    """

    out: Path | None
    report: AssembleReport


def run_assemble(config: AssembleConfig) -> AssembleResult:
    """Check the specs and the data and, unless only a check is asked for, write the joined dataset.

    Raises:
        UsageError: the specs or the target are wrong.
        FssegError: the data are wrong; all problems of all cases in one message, and nothing is written.

    Example:
        >>> specs = (Path("dataset_specs/btcv.yaml"), Path("dataset_specs/kits23.yaml"))
        >>> result = run_assemble(AssembleConfig(specs=specs, root=Path("data"), dataset_id=901, name="Abdomen"))
        >>> result.report.structures["kidney_left"].cases_annotating
        30
    """
    specs = load_specs(config.specs)
    names = resolved_names(specs, config.channels)
    manifest = Manifest("assemble", config.model_dump(mode="json"))
    manifest.add_inputs(find_file(spec, SPECS) for spec in config.specs)
    target = None if config.check else _target(config)
    sources = Sources(specs, names, source_folders(specs, config.root, required=target is not None))
    if target is None:
        joined = join(sources, None, repair=config.repair, only=config.cases)
        report = assemble_report(sources, joined, joined_structures(sources, joined))
        manifest.add(report=report.as_json())
        return AssembleResult(None, report, manifest=manifest.content)
    # One place for all names: two datasets of one number would be made at once.
    with new_run_folder(target, place=target.with_name(f"assemble_{target.name.partition('_')[0]}")) as staging:
        _require_free(target)  # another process may have just completed one
        joined = join(sources, staging, repair=config.repair, only=config.cases)
        structures = joined_structures(sources, joined)
        structures.save(staging)
        write_json(staging / "dataset.json", dataset_json(structures, specs, target.name))
        report = assemble_report(sources, joined, structures)
        manifest.add(out=str(target), report=report.as_json(), case_sha256=joined.hashes)
        return AssembleResult(target, report, manifest=manifest.write(staging))


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
