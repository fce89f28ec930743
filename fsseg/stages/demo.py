"""Stage: the whole pipeline on phantom CTs that it makes itself, from partially labelled sets to a report."""

from dataclasses import dataclass
from pathlib import Path

from fsseg.adaptation.result import AdaptResult
from fsseg.config.base import Seed, StrictModel
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest, package_versions
from fsseg.config.results import WrittenResult, plain
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.demo.files import PLANS, DemoFiles, target_files
from fsseg.demo.folder import RAW, Stopwatch, inside
from fsseg.demo.methods import METHODS, STRUCTURES, DemoMethod
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.demo.report import DemoFacts, report_sections
from fsseg.demo.results import DemoTraining, StructureResult, Verdict, judge, method_results
from fsseg.demo.sizes import DemoPlan, DemoSizes
from fsseg.reporting.html import write_report
from fsseg.stages.adapt import AdaptConfig, run_adapt
from fsseg.stages.assemble import AssembleConfig, run_assemble
from fsseg.stages.evaluate import EvaluateConfig, run_evaluate
from fsseg.stages.predict import PredictConfig, run_predict
from fsseg.stages.preprocess import PreprocessConfig, run_preprocess
from fsseg.stages.pretrain import PretrainConfig, run_pretrain
from fsseg.training.placement import cpu_threads
from fsseg.training.seeding import resolve_device

_SOURCES_ID, _TARGET_ID = 901, 804
_TILE_STEP_SIZE = 0.8  # two tiles an axis cover a phantom at the spacing of the plans


class DemoConfig(StrictModel):
    """What to run.

    Attributes:
        out: folder to make; holds the phantoms, every run and the report.
        seed: decides the phantoms, the initialisations and the crops.
        device: auto, cpu, cuda, cuda:N or mps.
        sizes: numbers of cases and steps.
    """

    out: Path
    seed: Seed = 0
    device: str = "auto"
    sizes: DemoSizes = DemoSizes()


@dataclass(frozen=True)
class DemoResult(WrittenResult):
    """What a demo has shown.

    Attributes:
        out: the folder, with report.html.
        results: a result per structure and method.
        verdict: whether few-shot adaptation of the pretrained network beats training from scratch.
    """

    out: Path
    results: list[StructureResult]
    verdict: Verdict


def plan_demo(config: DemoConfig) -> DemoPlan:
    """Return what `run_demo` would do, after the checks that it starts with.

    Raises:
        UsageError: the output folder exists, or the device is not there.
    """
    require_new(config.out)
    resolve_device(config.device)
    return DemoPlan(config.out, config.sizes.steps())


def run_demo(config: DemoConfig) -> DemoResult:
    """Run the demo; the folder is complete or absent. While it runs, the process works inside the new folder.

    Raises:
        UsageError: the output folder exists, or the device is not there.
        FssegError: no space left.

    Example:
        >>> run_demo(DemoConfig(out=Path("fsseg_demo"))).verdict.beats
        True
    """
    resolve_device(config.device)  # refused before any work is done
    manifest = Manifest("demo", config.model_dump(mode="json"), config.seed)
    watch = Stopwatch()
    # Tensors are so small that handing parts of them to other threads takes longer than computing them.
    with cpu_threads(1), new_run_folder(config.out) as staging, inside(staging):
        files = _make_data(config, watch)
        _pretrain(config, files, watch)
        results = [result for method in METHODS for result in _adapt_and_score(config, method, files, watch)]
        verdict = judge(results)
        recipe = config.sizes.recipe
        facts = DemoFacts(config.seed, recipe, results, verdict, watch.seconds, package_versions())
        manifest.add(stage_seconds=watch.seconds, results=plain(results), verdict=plain(verdict))
        write_json(Path("results.json"), plain(results))
        write_report(Path("report.html"), "fsseg demo", report_sections(files, facts))
        return DemoResult(config.out, results, verdict, manifest=manifest.write(Path()))


def _make_data(config: DemoConfig, watch: Stopwatch) -> DemoFiles:
    sizes = config.sizes
    with watch.part("phantoms", sizes.phantoms):
        *sources, target = write_phantom_datasets(
            RAW, seed=config.seed, cases_per_source=sizes.cases_per_source, target_cases=sizes.shots + sizes.test_cases
        )
    with watch.part("assemble", "one dataset of the three partially labelled sets"):
        run_assemble(AssembleConfig(specs=tuple(sources), root=RAW, dataset_id=_SOURCES_ID, name="Phantoms"))
    with watch.part("preprocess", f"{3 * sizes.cases_per_source} cases with {PLANS.stem}"):
        run_preprocess(PreprocessConfig(dataset=str(_SOURCES_ID), plans=str(PLANS)))
    files = target_files(target.with_name(f"Dataset{_TARGET_ID}_{target.stem}"), sizes.test_cases)
    files.test_list.write_text("".join(f"{case}\n" for case in files.test_cases), encoding="utf-8")
    return files


def _pretrain(config: DemoConfig, files: DemoFiles, watch: Stopwatch) -> None:
    settings = config.sizes.pretraining.model_copy(update={"seed": config.seed})
    with watch.part("pretrain", f"one network for all source structures, {settings.steps} steps"):
        run_pretrain(
            PretrainConfig(
                dataset=str(_SOURCES_ID),
                plans=PLANS.stem,
                out=files.pretrained,
                settings=settings,
                device=config.device,
            )
        )


def _adapt_and_score(
    config: DemoConfig, method: DemoMethod, files: DemoFiles, watch: Stopwatch
) -> list[StructureResult]:
    with watch.part(method.label, f"adapt to {', '.join(STRUCTURES)}, predict, evaluate"):
        adapted = _adapt(config, method, files)
        _score(config, method, files)
    counts, training = adapted.plan.parameters, adapted.training
    facts = DemoTraining(
        trainable_parameters=counts.trainable + counts.head,
        seconds=training.fit_seconds,
        steps=training.steps,
        plateau=training.plateau,
        support=adapted.plan.support,
    )
    return method_results(method, facts, files.metrics(method))


def _adapt(config: DemoConfig, method: DemoMethod, files: DemoFiles) -> AdaptResult:
    return run_adapt(
        AdaptConfig(
            checkpoint=files.pretrained,
            dataset=str(_TARGET_ID),
            structures=STRUCTURES,
            shots=config.sizes.shots,
            method=method.name,
            decoder=method.decoder,
            seed=config.seed,
            out=files.run(method),
            test=files.test_list,
            recipe=config.sizes.recipe,
            device=config.device,
        )
    )


def _score(config: DemoConfig, method: DemoMethod, files: DemoFiles) -> None:
    run, masks, cases = files.run(method), files.predictions(method), files.test_cases
    run_predict(
        PredictConfig(
            run=run, input=files.images, output=masks, cases=cases, tile_step_size=_TILE_STEP_SIZE, device=config.device
        )
    )
    run_evaluate(
        EvaluateConfig(
            prediction=masks, reference=files.labels, out=files.metrics(method), structures=STRUCTURES, cases=cases
        )
    )
