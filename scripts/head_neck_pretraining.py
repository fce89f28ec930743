"""How to pretrain, on real CT: recipes, one network per dataset, and the mistake of taking unknown for background.

Every encoder is trained for the same number of steps on datasets 101, 102 and 103, of which a fifth of the cases is
held out. Three questions are asked of each: how well does it segment what the held-out cases annotate; how well, as it
is, the known structures of another site (the pool of dataset 104); and how well does it adapt to five cases of that
site (full fine-tuning for 400 steps, five known and two novel structures, three seeds)? Adaptations are short on
purpose: at 1,000 steps even from-scratch has caught up (docs/results.md), and encoders can hardly be told apart.
Resumable.

    python scripts/head_neck_pretraining.py --data ../shared/data
    python scripts/head_neck_pretraining.py --data ../shared/data --precision bfloat16     # on a CPU that has it
"""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import head_neck
from head_neck_pretraining_table import write_tables

from fsseg.config.base import Precision
from fsseg.config.progress import Progress

SEEDS = 3
SHOTS = 5
ADAPT_STEPS = 400
HELD_OUT = 0.2
SINGLE = {"nerve": 911, "glands": 912, "bone": 913}  # name -> number of the dataset that holds one source alone
# So that its networks differ from the others in their data only: those see a side, and mirror nothing.
SINGLE_SETTINGS = {"mirroring": False}
UNIVERSAL: dict[str, dict[str, Any]] = {
    "default": {},
    "multitalent": {"recipe": "multitalent"},
    "suprem": {"recipe": "suprem"},
    "fseft": {"recipe": "fseft"},
    "unknown as background": {"unannotated": "background"},
}


@dataclass(frozen=True)
class Encoder:
    """A pretraining and what is asked of it.

    Attributes:
        label: how the tables call it.
        dataset: number of the assembled dataset.
        settings: what differs from the defaults of `fsseg pretrain`; "recipe" names a recipe.
        folder: where its runs lie.
        steps: steps of the pretraining.
        precision: of the pretraining and the adaptations.
    """

    label: str
    dataset: int
    settings: dict[str, Any]
    folder: Path
    steps: int
    precision: Precision

    @property
    def run(self) -> Path:
        """The pretrained run."""
        return self.folder / "pretrained"

    @property
    def held_out_metrics(self) -> Path:
        """Scores on the held-out source cases."""
        return self.folder / "held_out" / "metrics.csv"

    @property
    def zero_shot_metrics(self) -> Path:
        """Scores on the pool of the target site, without adaptation."""
        return self.folder / "zero_shot" / "metrics.csv"

    def adapted_metrics(self, seed: int) -> Path:
        """Scores of an adaptation on the test cases."""
        return self.folder / f"seed{seed}" / "metrics.csv"


def main() -> None:
    """Run what is missing, then write the tables."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # how far it is, where there is no terminal
    out = arguments.out.resolve()
    os.environ |= {name: str(out / name) for name in ("nnUNet_raw", "nnUNet_preprocessed")}
    os.environ["OMP_NUM_THREADS"] = "1"  # processes with one thread each are faster than one process with two
    head_neck.prepare(arguments.data.resolve(), out)
    _prepare_single(arguments.data.resolve(), out)
    head_neck.write_case_lists(out)
    encoders = _encoders(out, arguments.steps, arguments.precision)
    _run(pretrain, [(e,) for e in encoders if not e.run.is_dir()], arguments.workers)
    _run(score_held_out, [(e, out) for e in encoders if not e.held_out_metrics.is_file()], arguments.workers)
    _run(score_zero_shot, [(e, out) for e in encoders if not e.zero_shot_metrics.is_file()], arguments.workers)
    jobs = [(e, seed, out) for seed in range(SEEDS) for e in encoders if not e.adapted_metrics(seed).is_file()]
    _run(adapt_and_score, jobs, arguments.workers)
    command = shlex.join(["python", "scripts/head_neck_pretraining.py", *sys.argv[1:]])
    for file in write_tables(encoders, arguments.results, head_neck.KNOWN, head_neck.NOVEL, SEEDS, command):
        sys.stdout.write(f"{file}\n")


def _encoders(out: Path, steps: int, precision: Precision) -> list[Encoder]:
    root = out / (f"{steps}steps" if precision == "auto" else f"{steps}steps_{precision}")
    universal = [
        Encoder(label, head_neck.SOURCE_ID, settings, root / label.replace(" ", "_"), steps, precision)
        for label, settings in UNIVERSAL.items()
    ]
    return universal + [
        Encoder(f"{name} alone", number, SINGLE_SETTINGS, root / name, steps, precision)
        for name, number in SINGLE.items()
    ]


def _prepare_single(data: Path, out: Path) -> None:
    """Assemble and preprocess every source alone, with the intensity statistics of all."""
    from fsseg.stages.assemble import AssembleConfig, run_assemble
    from fsseg.stages.preprocess import PreprocessConfig, run_preprocess

    for name, number in SINGLE.items():
        specs = (head_neck.REPOSITORY / "dataset_specs" / f"headneck_{name}.yaml",)
        title = f"HeadNeck{name.title()}Alone"
        if not (out / "nnUNet_raw" / f"Dataset{number}_{title}").is_dir():
            run_assemble(AssembleConfig(specs=specs, root=data, dataset_id=number, name=title))
        if not (out / "nnUNet_preprocessed" / f"Dataset{number}_{title}" / "manifest.json").is_file():
            plans = out / "nnUNet_preprocessed" / f"Dataset{head_neck.SOURCE_ID}_HeadNeck" / "headneck_cpu.json"
            run_preprocess(PreprocessConfig(dataset=str(number), plans=str(plans)))


def _run(work: Callable[..., None], jobs: list[tuple], workers: int) -> None:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(work, *job) for job in jobs]
        try:
            with Progress(work.__name__, len(waiting), "job") as progress:
                for done in progress.over(as_completed(waiting)):
                    done.result()
        finally:
            pool.shutdown(cancel_futures=True)  # a failure is seen at once, not after all other jobs


def pretrain(encoder: Encoder) -> None:
    """Pretrain, or continue where it was stopped."""
    from fsseg.config.pretraining import PretrainSettings, recipe_settings
    from fsseg.stages.pretrain import PretrainConfig, run_pretrain

    own = dict(encoder.settings)
    settings = recipe_settings(own.pop("recipe", "default")) | own
    settings |= {
        "steps": encoder.steps,
        "precision": encoder.precision,
        "steps_per_epoch": 100,
        "validation_crops": 32,
        "validation_share": HELD_OUT,
    }
    run_pretrain(
        PretrainConfig(
            dataset=str(encoder.dataset),
            plans="headneck_cpu",
            out=encoder.run,
            settings=PretrainSettings(**settings),
            resume=True,
        )
    )


def score_held_out(encoder: Encoder, out: Path) -> None:
    """Score the encoder's own head on the cases that its pretraining held out."""
    from fsseg.data.structures import load_structures
    from fsseg.nnunet.pretraining.holdout import stratified_holdout

    (raw,) = (out / "nnUNet_raw").glob(f"Dataset{encoder.dataset}_*")
    structures = load_structures(raw)
    _, cases = stratified_holdout(sorted(structures.cases), structures, HELD_OUT, seed=0)
    _predict_and_evaluate(encoder.run, encoder.held_out_metrics, raw, tuple(cases))


def score_zero_shot(encoder: Encoder, out: Path) -> None:
    """Score the encoder's own head on the pool of the target site."""
    from fsseg.data.splits import read_case_list

    raw = out / "nnUNet_raw" / "Dataset104_HeadNeckTarget"
    _predict_and_evaluate(encoder.run, encoder.zero_shot_metrics, raw, tuple(read_case_list(out / "test_support.txt")))


def adapt_and_score(encoder: Encoder, seed: int, out: Path) -> None:
    """Adapt by full fine-tuning to five cases of the target site, and score its test cases."""
    from fsseg.config.recipes import Recipe
    from fsseg.data.splits import read_case_list
    from fsseg.stages.adapt import AdaptConfig, run_adapt

    metrics = encoder.adapted_metrics(seed)
    run = metrics.parent / "run"
    test = out / "test_scored.txt"
    if not run.is_dir():
        run_adapt(
            AdaptConfig(
                recipe=Recipe(max_steps=ADAPT_STEPS, precision=encoder.precision),
                checkpoint=encoder.run,
                dataset=str(head_neck.TARGET_ID),
                structures=(*head_neck.KNOWN, *head_neck.NOVEL),
                shots=SHOTS,
                method="full",
                seed=seed,
                out=run,
                pool=out / "test_support.txt",
                test=test,
            )
        )
    raw = out / "nnUNet_raw" / "Dataset104_HeadNeckTarget"
    _predict_and_evaluate(run, metrics, raw, tuple(read_case_list(test)))


def _predict_and_evaluate(run: Path, metrics: Path, raw: Path, cases: tuple[str, ...]) -> None:
    from fsseg.stages.evaluate import EvaluateConfig, run_evaluate
    from fsseg.stages.predict import PredictConfig, run_predict

    predictions = metrics.parent / "predictions"
    if not predictions.is_dir():
        step = head_neck.TILE_STEP_SIZE
        run_predict(
            PredictConfig(run=run, input=raw / "imagesTr", output=predictions, cases=cases, tile_step_size=step)
        )
    run_evaluate(EvaluateConfig(prediction=predictions, reference=raw / "labelsTr", out=metrics, cases=cases))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Dataset101_HeadNeckNerve and so on")
    parser.add_argument("--out", type=Path, default=Path("runs/head_neck_pretraining"), help="kept between calls")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="where the tables go")
    parser.add_argument("--steps", type=int, default=2000, help="steps of every pretraining (default: 2000)")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="of all trainings")
    parser.add_argument("--workers", type=int, default=2, help="processes with one thread each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
