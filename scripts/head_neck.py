"""The main job on real CT: pretrain on three partially labelled head-and-neck sets, adapt to a fourth.

Datasets 101, 102 and 103 annotate different structures of different patients; 104 is the few-shot site, with five
known structures and two novel ones (larynx, esophagus). The pool is the first 15 cases of 104 by name, the test set the
last 15. Resumable at any moment: what is finished is not run again.

    python scripts/head_neck.py --data ../shared/data                      # quick: 5 methods, 5 shots, 3 seeds
    python scripts/head_neck.py --data ../shared/data --methods all --steps 300 --no-mirroring  # 21, equal steps
    python scripts/head_neck.py --data ../shared/data --preset full        # 1, 5 and 10 shots
    python scripts/head_neck.py --data ../shared/data --score pool         # develop: test cases stay untouched
    python scripts/head_neck.py --data ../shared/data --score pool --rate-factor 3 --methods lora bitfit --steps 400
    python scripts/head_neck.py --data ../shared/data --score pool --set alpha=0.001 --methods l2_sp --steps 400
"""

import argparse
import json
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

from head_neck_table import write_tables

from fsseg.cli.options import parse_set
from fsseg.config.base import Precision
from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.methods.registry import create_method

REPOSITORY = Path(__file__).resolve().parents[1]
SPECS = ("headneck_nerve", "headneck_glands", "headneck_bone")
KNOWN = ("brainstem", "spinal_cord", "parotid_gland_right", "parotid_gland_left", "mandible")
NOVEL = ("larynx", "esophagus")
SOURCE_ID, TARGET_ID = 901, 104
PRETRAIN_STEPS = 2000
SEEDS = 3
TILE_STEP_SIZE = 0.75  # nnU-Net's default of 0.5 takes twice the time; the same for every method
_WITH_BOTH_DECODERS = ("bitfit", "affine", "lora", "lora_tucker", "arena", "adaptformer", "conv_adapter")
METHODS = {
    **{
        name: {"method": name}
        for name in ("from_scratch", "full", "decoder", "l2_sp", "linear_probe", "spatial_adapter", "prototype")
    },
    **{name: {"method": name, "decoder": "frozen"} for name in _WITH_BOTH_DECODERS},
    **{f"{name} + decoder": {"method": name, "decoder": "tuned"} for name in _WITH_BOTH_DECODERS},
}
CORE = ("from_scratch", "full", "linear_probe", "decoder", "lora + decoder")
PRESETS = {"quick": (5,), "full": (1, 5, 10)}
POOL_SUPPORT = 8  # of the 15 pool cases, where the others are scored


@dataclass(frozen=True)
class Job:
    """One adaptation with its prediction and evaluation."""

    label: str
    shots: int
    seed: int
    out: Path
    folder: Path
    steps: int | None
    rate_factor: float
    precision: Precision
    mirroring: bool
    options: dict[str, Any]

    @property
    def run(self) -> Path:
        """The run folder of the adaptation."""
        return self.folder / "run"

    @property
    def metrics(self) -> Path:
        """The CSV that the job ends with."""
        return self.folder / "metrics.csv"


def main() -> None:
    """Run what is missing, then write the tables."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # how far it is, where there is no terminal
    out = arguments.out.resolve()
    os.environ["nnUNet_raw"] = str(out / "nnUNet_raw")
    os.environ["nnUNet_preprocessed"] = str(out / "nnUNet_preprocessed")
    prepare(arguments.data.resolve(), out)
    pretrain(out)
    write_case_lists(out)
    steps = f"_{arguments.steps}steps" if arguments.steps else ""
    steps += f"_rates_x{arguments.rate_factor:g}" if arguments.rate_factor != 1 else ""
    steps += "".join(f"_{name}={value}" for name, value in arguments.set.items())
    steps += f"_{arguments.precision}" if arguments.precision != "auto" else ""
    unmirrored = "" if arguments.mirroring else "_unmirrored"
    runs = out / f"{arguments.score}{unmirrored}"
    jobs = [
        Job(
            label=label,
            shots=shots,
            seed=seed,
            out=out,
            folder=runs / f"shots{shots}{steps}" / f"seed{seed}" / label.replace(" + ", "_"),
            steps=arguments.steps,
            rate_factor=arguments.rate_factor,
            precision=arguments.precision,
            mirroring=arguments.mirroring,
            options=arguments.set,
        )
        for shots in PRESETS[arguments.preset]
        for seed in range(arguments.seeds)
        for label in arguments.methods
    ]
    run_all(adapt, [job for job in jobs if not job.run.is_dir()], arguments)
    if arguments.adapt_only:
        return
    zero_shot(out, runs, arguments)
    run_all(score, [job for job in jobs if not job.metrics.is_file()], arguments)
    command = shlex.join(["python", "scripts/head_neck.py", *sys.argv[1:]])
    results = runs if arguments.score == "pool" else arguments.results
    stem = f"{arguments.preset}{_name_of(arguments.methods)}{_seeds_name(arguments.seeds)}{steps}{unmirrored}"
    for file in write_tables(jobs, runs, results, stem, KNOWN, NOVEL, command):
        sys.stdout.write(f"{file}\n")


def _name_of(methods: list[str]) -> str:
    """Return what the files of a table are called by, so that a table of few methods never replaces one of all."""
    sets = {CORE: "", tuple(METHODS): "_methods"}
    return sets.get(tuple(methods), "_" + "_".join(name.replace(" + ", "+") for name in methods))


def _seeds_name(seeds: int) -> str:
    return "" if seeds == SEEDS else f"_{seeds}seeds"


def prepare(data: Path, out: Path) -> None:
    """Assemble and preprocess the datasets."""
    from fsseg.stages.assemble import AssembleConfig, run_assemble
    from fsseg.stages.preprocess import PreprocessConfig, run_preprocess

    specs = tuple(REPOSITORY / "dataset_specs" / f"{name}.yaml" for name in SPECS)
    target = (REPOSITORY / "dataset_specs" / "headneck_target.yaml",)
    for number, name, files in ((SOURCE_ID, "HeadNeck", specs), (TARGET_ID, "HeadNeckTarget", target)):
        if not (out / "nnUNet_raw" / f"Dataset{number}_{name}").is_dir():
            run_assemble(AssembleConfig(specs=files, root=data, dataset_id=number, name=name))
    if not (out / "nnUNet_preprocessed" / f"Dataset{SOURCE_ID}_HeadNeck" / "manifest.json").is_file():
        plans = str(REPOSITORY / "plans" / "headneck_cpu.json")
        run_preprocess(PreprocessConfig(dataset=str(SOURCE_ID), plans=plans))


def pretrain(out: Path) -> None:
    """Pretrain once on 101 + 102 + 103, or continue where it was stopped."""
    from fsseg.config.pretraining import PretrainSettings
    from fsseg.stages.pretrain import PretrainConfig, run_pretrain

    if not (out / "pretrained").is_dir():
        settings = PretrainSettings(steps=PRETRAIN_STEPS, steps_per_epoch=100, validation_crops=32)
        run = out / "pretrained"
        run_pretrain(
            PretrainConfig(dataset=str(SOURCE_ID), plans="headneck_cpu", out=run, settings=settings, resume=True)
        )


def write_case_lists(out: Path) -> None:
    """Write pool and test lists, and the halves of the pool for development."""
    images = sorted((out / "nnUNet_raw" / "Dataset104_HeadNeckTarget" / "imagesTr").glob("*.nii.gz"))
    cases = [image.name.removesuffix("_0000.nii.gz") for image in images]
    pool, test = cases[:15], cases[-15:]
    lists = {"test": (pool, test), "pool": (pool[:POOL_SUPPORT], pool[POOL_SUPPORT:])}
    for score, (support, scored) in lists.items():
        (out / f"{score}_support.txt").write_text("\n".join(support) + "\n", encoding="utf-8")
        (out / f"{score}_scored.txt").write_text("\n".join(scored) + "\n", encoding="utf-8")


def zero_shot(out: Path, runs: Path, arguments: argparse.Namespace) -> None:
    """Score the pretrained network itself on the known structures."""
    folder = runs / "zero_shot"
    if not (folder / "metrics.csv").is_file():
        predict_and_evaluate(out / "pretrained", folder, out, arguments.score, mirroring=arguments.mirroring)


def run_all(work: Callable[[Job, str], None], jobs: list[Job], arguments: argparse.Namespace) -> None:
    """Run jobs in single-thread processes, which two cores do faster than one process with two threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(work, job, arguments.score) for job in jobs]
        try:
            with Progress(work.__name__, len(waiting), "job") as progress:
                for done in progress.over(as_completed(waiting)):
                    done.result()
        finally:
            pool.shutdown(cancel_futures=True)  # a failure is seen at once, not after all other jobs


def adapt(job: Job, split: str) -> None:
    """Adapt to all structures at once from support cases of the pool."""
    from fsseg.config.recipes import Recipe
    from fsseg.stages.adapt import AdaptConfig, run_adapt

    ours = Recipe()
    rates = {family: rate * job.rate_factor for family, rate in ours.learning_rates.items()}
    run_adapt(
        AdaptConfig(
            recipe=Recipe(learning_rates=rates, max_steps=job.steps or ours.max_steps, precision=job.precision),
            checkpoint=job.out / "pretrained",
            dataset=str(TARGET_ID),
            structures=(*KNOWN, *NOVEL),
            shots=job.shots,
            seed=job.seed,
            out=job.run,
            pool=job.out / f"{split}_support.txt",
            test=job.out / f"{split}_scored.txt",
            method_options=job.options,
            **METHODS[job.label],
        )
    )


def score(job: Job, split: str) -> None:
    """Predict the scored cases and evaluate."""
    predict_and_evaluate(job.run, job.folder, job.out, split, mirroring=job.mirroring)


def predict_and_evaluate(run: Path, folder: Path, out: Path, split: str, *, mirroring: bool) -> None:
    """Predict the scored cases with a run and write metrics.csv."""
    from fsseg.data.splits import read_case_list
    from fsseg.stages.evaluate import EvaluateConfig, run_evaluate
    from fsseg.stages.predict import PredictConfig, run_predict

    dataset = out / "nnUNet_raw" / "Dataset104_HeadNeckTarget"
    cases = read_case_list(out / f"{split}_scored.txt")
    predictions = folder / "predictions"
    if not predictions.is_dir():
        merged = (run / "dataset.json").is_file()
        adapter = {"base": out / "pretrained", "adapters": (run / "adapter.safetensors",)}
        run_predict(
            PredictConfig(
                **({"run": run} if merged else adapter),
                input=dataset / "imagesTr",
                output=predictions,
                cases=cases,
                tile_step_size=TILE_STEP_SIZE,
                mirroring=mirroring,
            )
        )
    names = json.loads((predictions / "dataset.json").read_text(encoding="utf-8"))["labels"]
    structures = tuple(name for name in names if name != "background")
    run_evaluate(
        EvaluateConfig(
            prediction=predictions,
            reference=dataset / "labelsTr",
            out=folder / "metrics.csv",
            cases=cases,
            structures=structures,
        )
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Dataset101_HeadNeckNerve and so on")
    parser.add_argument("--out", type=Path, default=Path("runs/head_neck"), help="working folder, kept between calls")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="where the tables go")
    parser.add_argument("--methods", nargs="+", default=["core"], metavar="NAME", help="core, all, or some of all")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="quick")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--score", choices=("test", "pool"), default="test", help="pool: develop without the test cases"
    )
    parser.add_argument("--steps", type=int, help="cap on the steps of every method, decay included (default: 2000)")
    parser.add_argument("--rate-factor", type=float, default=1, help="multiply the rates of the method families")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of all of --methods")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="of adaptations, see Recipe")
    parser.add_argument("--no-mirroring", dest="mirroring", action="store_false", help="score without averaging flips")
    parser.add_argument("--adapt-only", action="store_true", help="stop before anything is scored")
    parser.add_argument("--workers", type=int, default=2, help="processes with one thread each")
    arguments = parser.parse_args()
    sets = {"core": list(CORE), "all": list(METHODS)}
    arguments.methods = list(dict.fromkeys(name for word in arguments.methods for name in sets.get(word, [word])))
    unknown = [name for name in arguments.methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; choose core, all, or of: {', '.join(METHODS)}")
    try:
        arguments.set = parse_set(arguments.set)
        for label in arguments.methods:
            create_method(METHODS[label]["method"], arguments.set)
    except FssegError as error:
        parser.error(str(error))
    if arguments.score == "pool" and max(PRESETS[arguments.preset]) > POOL_SUPPORT:
        parser.error(f"--score pool has {POOL_SUPPORT} support cases, --preset {arguments.preset} asks for more")
    return arguments


if __name__ == "__main__":
    main()
