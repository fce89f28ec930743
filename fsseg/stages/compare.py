"""Stage: predict with runs where that is to be done, score them and folders of predictions, and write the page."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.comparing.checked import Checked, check
from fsseg.comparing.entries import Entry
from fsseg.comparing.numbers import Comparison
from fsseg.comparing.page import ComparisonPage
from fsseg.comparing.pictures import CasePictures
from fsseg.config.base import StrictModel
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME, Manifest
from fsseg.config.recipes import LEAST_TILE_STEP
from fsseg.config.results import Result, WrittenResult
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.evaluation.aggregation import BOOTSTRAP_SEED
from fsseg.evaluation.label_folders import LabelFolder, open_label_folder
from fsseg.reporting.anonymous import anonymous_names
from fsseg.stages.predict import PredictConfig, run_predict

_MASKS = "masks"  # folder of a comparison: label maps of every run that predicted


class CompareConfig(StrictModel):
    """What to compare.

    Attributes:
        runs: run folders, and NAME=FOLDER: a run folder, or a folder of label maps from any tool.
        test: file with the test cases, one a line.
        reference: folder of reference label maps.
        images: folder of the images; None takes imagesTr beside labelsTr, and imagesTs beside labelsTs.
        out: folder to make.
        baseline: name of the run that the others are compared to; None for the first.
        structures: structures to compare; None for all that reference and runs know.
        tolerance_mm: surfaces this close agree (NSD).
        tile_step_size: step of the sliding window as a share of the patch, the same for all runs.
        mirroring: average over flips of the axes that a run allows.
        anonymous: call the cases case_001, case_002, … in all that is written; keep no predictions.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    runs: tuple[str, ...] = Field(min_length=1)
    test: Path
    reference: Path
    images: Path | None = None
    out: Path
    baseline: str | None = None
    structures: tuple[str, ...] | None = Field(default=None, min_length=1)
    tolerance_mm: float = Field(default=2.0, ge=0)
    tile_step_size: float = Field(default=0.5, ge=LEAST_TILE_STEP, le=1)
    mirroring: bool = True
    anonymous: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class CompareResult(WrittenResult):
    """What a comparison found.

    Attributes:
        out: the folder, with compare.html.
        comparison: the numbers.
    """

    out: Path
    comparison: Comparison


@dataclass(frozen=True)
class ComparePlan(Result):
    """What a comparison would do.

    Attributes:
        predicts: runs that predict the test cases.
        scores: folders of predictions that are there.
        cases: test cases.
        structures: that are scored.
        baseline: what the others are compared to.
        notes: what a user should know.
    """

    predicts: tuple[str, ...]
    scores: tuple[str, ...]
    cases: tuple[str, ...]
    structures: tuple[str, ...]
    baseline: str
    notes: tuple[str, ...]


def plan_compare(config: CompareConfig) -> ComparePlan:
    """Check everything, and return what a comparison would do; nothing is written.

    Raises:
        UsageError, FssegError: as `run_compare`.
    """
    require_new(config.out)
    checked = _checked(config)
    runs = tuple(entry.name for entry in checked.entries if entry.run is not None)
    others = tuple(entry.name for entry in checked.entries if entry.run is None)
    notes = tuple(checked.notes)
    return ComparePlan(runs, others, checked.cases, checked.structures, checked.baseline, notes)


def run_compare(config: CompareConfig) -> CompareResult:
    """Compare; the folder is complete or absent. The same command resumes one that was stopped.

    Raises:
        UsageError: a folder is missing, a test case has no reference, image or prediction or was trained on, no
            structure is known to all, or the output exists.
        FssegError: files cannot be read.

    Example:
        >>> runs, out = ("runs/lora", "other=predictions"), Path("compared")
        >>> result = run_compare(CompareConfig(runs=runs, test=test_list, reference=labels, out=out))
        >>> result.comparison.scores("lora", "larynx").dsc.mean
        0.81
    """
    require_new(config.out)
    checked = _checked(config)
    manifest = Manifest("compare", config.model_dump(mode="json"), BOOTSTRAP_SEED)
    with new_run_folder(config.out, checkpoints=f"{_MASKS}/*", resume=True) as staging:
        folders = {entry.name: _predicted(entry, config, checked, staging) for entry in checked.entries}
        comparison, notes = checked.scored(folders, config.tolerance_mm)
        names = anonymous_names(checked.cases) if config.anonymous else {case: case for case in checked.cases}
        pictures = CasePictures(comparison, checked.reference, folders, checked.images, names).sections()
        comparison = comparison.renamed(names)
        page = ComparisonPage(
            comparison=comparison,
            about={entry.name: entry.about for entry in checked.entries},
            notes=notes,
            command=_command(config, checked),
            tolerance_mm=config.tolerance_mm,
            pictures=pictures,
        )
        page.write(staging)
        if config.anonymous:
            shutil.rmtree(staging / _MASKS, ignore_errors=True)
        else:
            manifest.add_inputs(checked.files())
        facts = {"baseline": checked.baseline, "structures": list(comparison.structures), "notes": notes}
        manifest.add(**facts, cases=sorted(names.values()))
        return CompareResult(config.out, comparison, manifest=manifest.write(staging))


def _checked(config: CompareConfig) -> Checked:
    return check(
        config.runs,
        config.test,
        config.reference,
        images=config.images,
        baseline=config.baseline,
        structures=config.structures,
    )


def _predicted(entry: Entry, config: CompareConfig, checked: Checked, staging: Path) -> LabelFolder:
    """Return the label maps of an entry; a run predicts them, unless it has done so before it was stopped."""
    if entry.run is None:
        assert entry.predictions is not None
        return entry.predictions
    assert checked.images is not None
    out = staging / _MASKS / entry.name
    out.parent.mkdir(exist_ok=True)
    wanted = PredictConfig(
        run=entry.run.run,
        base=entry.run.base,
        adapters=entry.run.adapters,
        input=checked.images,
        output=out,
        cases=checked.cases,
        tile_step_size=config.tile_step_size,
        mirroring=config.mirroring,
        device=config.device,
    )
    if out.is_dir() and read_json(out / MANIFEST_NAME).get("config") != wanted.model_dump(mode="json"):
        shutil.rmtree(out)  # of a comparison with other settings that was stopped
    if not out.is_dir():
        run_predict(wanted)
    return open_label_folder(out)


def _command(config: CompareConfig, checked: Checked) -> str:
    """Return the command without the folders on this machine."""
    words = ["fsseg", "compare", *(f"{entry.name}=FOLDER" for entry in checked.entries), "--test", config.test.name]
    words += ["--baseline", checked.baseline, "--tolerance-mm", f"{config.tolerance_mm:g}"]
    words += ["--tile-step-size", f"{config.tile_step_size:g}", *([] if config.mirroring else ["--no-mirroring"])]
    words += ["--structure", *config.structures] if config.structures else []
    return shlex.join([*words, *(["--anonymous"] if config.anonymous else [])])
