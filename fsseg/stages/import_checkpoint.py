"""Stage: turn a public checkpoint into a run that `fsseg adapt` starts from."""

from dataclasses import dataclass, replace
from pathlib import Path

from fsseg.checkpoints.import_report import ImportPlan, import_plan
from fsseg.checkpoints.import_request import ImportRequest
from fsseg.checkpoints.imported_model import ImportedModel, filled, model_without_weights
from fsseg.checkpoints.translated_file import TranslatedFile, translate_file
from fsseg.checkpoints.zero_shot import ZeroShot, prepare_zero_shot, segment_zero_shot
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.results import WrittenResult, plain
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.evaluation.aggregation import StructureSummary
from fsseg.stages.evaluate import EvaluateConfig, run_evaluate
from fsseg.training.seeding import resolve_device

TRANSFER_NAME = "transfer.json"


class ImportConfig(ImportRequest):
    """What to import, and where.

    Attributes:
        out: run folder to make: an nnU-Net model folder.
        zero_shot: number or name of a dataset in nnUNet_raw on which to run the imported head.
        cases: its cases; None means all.
        device: auto, cpu, cuda, cuda:N or mps; for the zero-shot check.
    """

    out: Path
    zero_shot: str | None = None
    cases: tuple[str, ...] | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ImportResult(WrittenResult):
    """A run folder that was written.

    Attributes:
        out: the folder.
        plan: what the checkpoint became.
        zero_shot: row of the head -> its scores without training; None if they were not asked for.
    """

    out: Path
    plan: ImportPlan
    zero_shot: dict[str, StructureSummary] | None


@dataclass(frozen=True)
class _Prepared:
    file: TranslatedFile
    imported: ImportedModel
    check: ZeroShot | None
    plan: ImportPlan


def plan_import(config: ImportConfig) -> ImportPlan:
    """Return what an import would make; nothing is written.

    Raises:
        UsageError, FssegError: as `run_import`.
    """
    return _prepared(config).plan


def run_import(config: ImportConfig) -> ImportResult:
    """Import; the run folder is complete or absent.

    It holds the files of a model folder, transfer.json (what went where) and manifest.json.

    Example:
        >>> result = run_import(ImportConfig(file=Path("supervised_suprem_unet_2100.pth"), out=Path("runs/suprem")))
        >>> result.plan.family, len(result.plan.structures)
        ('suprem_unet', 32)

    Raises:
        UsageError: unknown family, plans, channels or a patch that do not fit, too little of the network in the file,
            the output exists.
        FssegError: a damaged file, or one that holds objects that would execute code.
    """
    prepared = _prepared(config)
    plan, check, scores = prepared.plan, prepared.check, None
    manifest = Manifest("import", config.model_dump(mode="json"), config.seed)
    manifest.add_inputs(prepared.file.input_files())
    with new_run_folder(config.out) as staging:
        prepared.imported.model.write(staging)
        write_json(staging / TRANSFER_NAME, plan.transfer.as_dict())
        if check is not None:
            notes = segment_zero_shot(check, prepared.imported.network, staging, resolve_device(config.device))
            scores, plan = _scores(check, staging), replace(plan, notes=(*plan.notes, *notes))
            manifest.add(zero_shot=plain(scores))
        manifest.add(**plan.facts())
        return ImportResult(config.out, plan, scores, manifest=manifest.write(staging))


def _prepared(config: ImportConfig) -> _Prepared:
    require_new(config.out)
    file = translate_file(config)
    model, notes = model_without_weights(file, config.out)
    check = prepare_zero_shot(model, config.zero_shot, config.cases) if config.zero_shot else None
    imported = filled(model, file)
    return _Prepared(file, imported, check, import_plan(file, imported, (*notes, *(check.notes if check else ()))))


def _scores(check: ZeroShot, run: Path) -> dict[str, StructureSummary]:
    """Evaluate the label maps of each group; return the scores by row of the head."""
    scores: dict[str, StructureSummary] = {}
    for group, rows in check.groups.items():
        folder = check.folder(run, group)
        evaluated = run_evaluate(
            EvaluateConfig(
                prediction=folder,
                reference=check.dataset.path / "labelsTr",
                out=folder.with_name(f"{folder.name}.csv"),
                cases=check.cases,
            )
        )
        names = check.model.structures.names
        scores |= {names[rows[structure]]: summary for structure, summary in evaluated.structures.items()}
    return scores
