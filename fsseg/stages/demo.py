"""Stage: the whole way on phantom CTs that it makes itself, from partially labelled sets to a report."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import Seed, StrictModel
from fsseg.config.json_files import write_json
from fsseg.config.manifest import Manifest
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import Recipe
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.demo import phantom_datasets
from fsseg.demo.files import DemoFiles, target_files
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.demo.report import report_sections
from fsseg.demo.results import METHODS, STRUCTURES, DemoMethod, judge, method_results
from fsseg.nnunet.environment import nnunet_folders
from fsseg.reporting.html import write_report
from fsseg.stages.adapt import AdaptConfig, run_adapt
from fsseg.stages.assemble import AssembleConfig, run_assemble
from fsseg.stages.evaluate import EvaluateConfig, run_evaluate
from fsseg.stages.predict import PredictConfig, run_predict
from fsseg.stages.preprocess import PreprocessConfig, run_preprocess
from fsseg.stages.pretrain import PretrainConfig, run_pretrain
from fsseg.training.placement import cpu_threads
from fsseg.training.seeding import resolve_device

logger = logging.getLogger(__name__)

PLANS = Path(phantom_datasets.__file__).with_name("phantom_plans.json")
_SOURCES_ID, _TARGET_ID = 901, 804
_TILE_STEP_SIZE = 0.8  # two tiles an axis cover a phantom at the spacing of the plans


class DemoSizes(StrictModel):
    """How large the demo is; the defaults take a few minutes on two CPU cores.

    Attributes:
        cases_per_source: phantoms in each of the three source sets.
        shots: support cases of the target site.
        test_cases: further cases of the target site, which nothing is learned from.
        pretraining: steps and learning rate of the pretraining; the seed is the demo's.
        recipe: learning rates, stop rule and cap on the steps, the same for every method.
    """

    cases_per_source: int = Field(default=10, ge=1)
    shots: int = Field(default=5, ge=1)
    test_cases: int = Field(default=6, ge=2)
    pretraining: PretrainSettings = PretrainSettings(
        steps=1200, steps_per_epoch=60, validation_crops=12, learning_rate=3e-3
    )
    recipe: Recipe = Recipe(
        learning_rates={"whole_network": 2e-3, "scratch": 1e-3, "decoder": 3e-3, "head": 3e-2, "low_rank": 3e-3},
        decoder_learning_rate=3e-3,
        head_learning_rate=3e-2,
        max_steps=150,
        plateau_window=40,
        plateau_patience=50,
    )


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


def plan_demo(config: DemoConfig) -> dict[str, Any]:
    """Return what `run_demo` would do, after the checks that it starts with.

    Raises:
        UsageError: the output folder exists, or the device is not there.
    """
    require_new(config.out)
    resolve_device(config.device)
    sizes, structures = config.sizes, ", ".join(STRUCTURES)
    steps = [
        f"phantoms: 3 source sets of {sizes.cases_per_source} cases, {sizes.shots} + {sizes.test_cases} target cases",
        f"pretrain: one network for all source structures, {sizes.pretraining.steps} steps",
        *(
            f"{method.label}: adapt to {structures}, at most {sizes.recipe.max_steps} steps; predict, evaluate"
            for method in METHODS
        ),
        "report: results.json and report.html",
    ]
    return {"out": str(config.out), "steps": steps}


def run_demo(config: DemoConfig) -> dict[str, Any]:
    """Run the demo; the folder is complete or absent.

    While it runs, the process works inside the new folder, so that all paths in the manifests are relative to it and
    stay true when it gets its final name.

    Returns:
        The content of the manifest, with `results` (a mapping per structure and method) and `verdict`.

    Raises:
        UsageError: the output folder exists, or the device is not there.
        FssegError: no space left.
    """
    resolve_device(config.device)  # refused before any work is done
    manifest = Manifest("demo", config.model_dump(mode="json"), config.seed)
    # Tensors are so small that handing parts of them to other threads takes longer than computing them.
    with cpu_threads(1), new_run_folder(config.out) as staging, _inside(staging):
        seconds: dict[str, float] = {}
        files = _make_data(config, seconds)
        _pretrain(config, files, seconds)
        results: list[dict[str, Any]] = []
        for method in METHODS:
            results += _adapt_and_score(config, method, files, seconds)
        verdict = judge(results)
        manifest.add(stage_seconds=seconds, results=results, verdict=verdict)
        write_json(Path("results.json"), results)
        write_report(Path("report.html"), "fsseg demo", report_sections(files, manifest.content))
        return manifest.write(Path())


def _make_data(config: DemoConfig, seconds: dict[str, float]) -> DemoFiles:
    sizes = config.sizes
    cases, shots = sizes.cases_per_source, sizes.shots
    with _stage("phantoms", f"3 source sets of {cases} cases, {shots} + {sizes.test_cases} target cases", seconds):
        *sources, target = write_phantom_datasets(
            Path("nnUNet_raw"), seed=config.seed, cases_per_source=cases, target_cases=shots + sizes.test_cases
        )
    with _stage("assemble", "one dataset of the three partially labelled sets", seconds):
        run_assemble(
            AssembleConfig(specs=tuple(sources), root=Path("nnUNet_raw"), dataset_id=_SOURCES_ID, name="Phantoms")
        )
    with _stage("preprocess", f"{3 * cases} cases with {PLANS.stem}", seconds):
        run_preprocess(PreprocessConfig(dataset=str(_SOURCES_ID), plans=str(PLANS)))
    files = target_files(target.with_name(f"Dataset{_TARGET_ID}_{target.stem}"), sizes.test_cases)
    files.test_list.write_text("".join(f"{case}\n" for case in files.test_cases), encoding="utf-8")
    return files


def _pretrain(config: DemoConfig, files: DemoFiles, seconds: dict[str, float]) -> None:
    settings = config.sizes.pretraining.model_copy(update={"seed": config.seed})
    with _stage("pretrain", f"one network for all source structures, {settings.steps} steps", seconds):
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
    config: DemoConfig, method: DemoMethod, files: DemoFiles, seconds: dict[str, float]
) -> list[dict[str, Any]]:
    run, predictions, metrics = files.run(method), files.predictions(method), files.metrics(method)
    adaptation = AdaptConfig(
        checkpoint=files.pretrained,
        dataset=str(_TARGET_ID),
        structures=STRUCTURES,
        shots=config.sizes.shots,
        method=method.name,
        decoder=method.decoder,
        seed=config.seed,
        out=run,
        test=files.test_list,
        recipe=config.sizes.recipe,
        device=config.device,
    )
    with _stage(method.label, f"adapt to {', '.join(STRUCTURES)}, predict, evaluate", seconds):
        manifest = run_adapt(adaptation).manifest
        run_predict(
            PredictConfig(
                run=run,
                input=files.images,
                output=predictions,
                cases=files.test_cases,
                tile_step_size=_TILE_STEP_SIZE,
                device=config.device,
            )
        )
        run_evaluate(
            EvaluateConfig(
                prediction=predictions,
                reference=files.labels,
                out=metrics,
                structures=STRUCTURES,
                cases=files.test_cases,
            )
        )
    return method_results(method, manifest, metrics)


@contextmanager
def _stage(name: str, text: str, seconds: dict[str, float]) -> Iterator[None]:
    logger.info("%s: %s", name, text)
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 1)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work inside `folder`, with nnU-Net's folders in it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with nnunet_folders(raw=Path("nnUNet_raw"), preprocessed=Path("nnUNet_preprocessed")):
            yield
    finally:
        os.chdir(before)
