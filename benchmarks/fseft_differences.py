"""What the remaining differences from FSEFT's protocol change, on phantoms: the same seeds with and without each.

A small base is pretrained on phantoms and adapted with `--recipe fseft` for a few support draws. Test cases are then
scored (DSC of the preprocessed grid unless said) as fsseg does, and with one thing done as FSEFT does it:

    clipped last   intensities are clipped after resampling, in support and test cases
    window         the sliding window runs over the box of the body only
    their score    the logits of the preprocessed grid against a reference resampled to it by nearest neighbour, in
                   place of the label map on the image's grid by `--protocol fseft_multiclass`

The phantoms have voxels of 4.2 to 4.5 mm and the base 6 mm, which is the ratio of 1.05 to 1.5 mm.

    python benchmarks/fseft_differences.py --work /tmp/fseft_differences --out benchmarks/results
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import fsseg  # noqa: F401 - sets the OpenMP variables before torch is imported

# isort: split
import torch

from fsseg.adaptation.crops import lower_ends_of
from fsseg.adaptation.job import Job
from fsseg.adaptation.settings import recipe_for
from fsseg.adaptation.start import make_start
from fsseg.adaptation.support import support_volumes
from fsseg.adaptation.target import LabelledDataset, make_target
from fsseg.adaptation.training import train
from fsseg.cli.main import main as run_fsseg
from fsseg.config.csv_file import write_csv
from fsseg.config.recipes import Recipe
from fsseg.data.body import body_box
from fsseg.data.volumes import Volume
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.evaluation import fseft
from fsseg.evaluation.aggregation import mean_over_seeds, paired_difference
from fsseg.evaluation.label_maps import read_label_map
from fsseg.evaluation.metrics import dice
from fsseg.methods.registry import create_method
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import STATISTICS
from fsseg.nnunet.prediction import Predictor
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset
from fsseg.reporting.tables import text_table

REPOSITORY = Path(__file__).parents[1]
STRUCTURES = ("liver", "kidney_left", "stomach", "pancreas")
SOURCES, TARGET = "901", "804"
SPACING_MM = 6.0
WINDOW_HU = (-175.0, 250.0)
SHOTS, POOL = 5, 7
NAME = "fseft_differences"
_WIDE_HU = 1e6


class ClippingLast(CasePreprocessor):
    """Preprocesses as the plans say, but clips intensities to the window after resampling."""

    def __init__(self, model: ModelFolder, ends: Sequence[float]) -> None:
        statistics = dict(model.plans[STATISTICS]["0"])
        wide = {**statistics, "percentile_00_5": -_WIDE_HU, "percentile_99_5": _WIDE_HU}
        super().__init__(replace(model, plans={**model.plans, STATISTICS: {"0": wide}}), cache=None)
        self.ends = ends

    def _run(self, files: Sequence[Path], label: Path | None) -> tuple[np.ndarray, Any, Any]:
        data, labels, properties = super()._run(files, label)
        low, high = self.ends
        return np.clip(data, low, high), labels, properties


@dataclass(frozen=True)
class Lab:
    """What is trained and scored."""

    base: ModelFolder
    dataset: RawDataset
    job: Job
    tests: tuple[str, ...]
    pool: tuple[str, ...]

    def volumes(self, cases: Sequence[str], *, clipped_last: bool) -> list[Volume]:
        if clipped_last:
            preprocessor: CasePreprocessor = ClippingLast(self.base, (0.0, 1.0))
        else:
            preprocessor = CasePreprocessor(self.base, cache=None)
        return support_volumes(self.dataset, self.job.target, cases, preprocessor)


def make_lab(args: argparse.Namespace, method: str, recipe: Recipe) -> Lab:
    """Write phantoms, pretrain, and read what was made; what lies in the folder already is used."""
    work: Path = args.work
    for part in ("raw", "preprocessed"):
        (work / part).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{part}"] = str(work / part)
    if not (work / "base").is_dir():
        specs = write_phantom_datasets(work / "sources", cases_per_source=args.sources, target_cases=POOL + args.tests)
        for names, number, name in ((specs[:3], SOURCES, "Sources"), (specs[3:], TARGET, "Target")):
            words = ("--root", work / "sources", "--id", number, "--name", name)
            command("assemble", *names, *words)
        plans = work / "coarse.json"
        plans.write_text(json.dumps(coarse_plans()), encoding="utf-8")
        command("preprocess", "--dataset", SOURCES, "--plans", plans)
        trained = ("--plans", "coarse", "--steps", args.steps, "--out", work / "base", "--device", "cpu")
        command("pretrain", "--dataset", SOURCES, *trained, "--set", "learning_rate=0.01")
    base = ModelFolder.read(work / "base")
    dataset = read_raw_dataset(work / "raw" / "Dataset804_Target")
    target = make_target(LabelledDataset.of(dataset), STRUCTURES, base.head_rows())
    created = create_method(method, {})
    job = Job(base, target, created, created.decoder_choices[0], recipe, 0, torch.device("cpu"), method)
    return Lab(base, dataset, job, tests=dataset.cases[POOL:][: args.tests], pool=dataset.cases[:POOL])


def command(*words: object) -> None:
    """Run a command of fsseg in this process."""
    code = run_fsseg([str(word) for word in words])
    if code:
        sys.exit(f"fsseg {words[0]} failed")


def coarse_plans() -> dict[str, Any]:
    """Return plans of a small U-Net with FSEFT's window and order of resampling."""
    plans = json.loads((REPOSITORY / "plans" / "headneck_cpu.json").read_text(encoding="utf-8"))
    low, high = WINDOW_HU
    intensities = {"mean": low, "std": high - low, "percentile_00_5": low, "percentile_99_5": high}
    intensities |= {"min": low, "max": high, "median": (low + high) / 2}
    plans |= {"plans_name": "coarse", "original_median_spacing_after_transp": [SPACING_MM] * 3}
    plans[STATISTICS] = {"0": intensities}
    block = plans["configurations"]["3d_fullres"]
    block |= {"data_identifier": "coarse_3d_fullres", "spacing": [SPACING_MM] * 3, "patch_size": [32, 32, 32]}
    block["resampling_fn_data_kwargs"] |= {"order": 1}
    return plans


def scores_of(lab: Lab, seed: int, work: Path) -> list[dict[str, Any]]:
    """Adapt from one support draw, twice, and score the test cases in every way."""
    draw = np.random.default_rng(seed).permutation(lab.pool)[:SHOTS]
    rows: list[dict[str, Any]] = []
    for clipped_last in (False, True):
        start = make_start(replace(lab.job, seed=seed), lab.volumes(sorted(draw), clipped_last=clipped_last))
        train(start, f"seed {seed}")
        predictor = Predictor(start.network.network, lab.job.model(), torch.device("cpu"))
        for volume in lab.volumes(lab.tests, clipped_last=clipped_last):
            logits = predictor.logits(np.asarray(volume.image)).numpy()
            found = {"clipped last" if clipped_last else "fsseg": on_grid(lab, logits, np.asarray(volume.labels[0]))}
            if not clipped_last:
                found |= otherwise(lab, predictor, volume, logits, work)
            rows += [
                {"seed": seed, "case": volume.case, "way": way, "structure": name, "dsc": value}
                for way, of_structures in found.items()
                for name, value in of_structures.items()
            ]
    return rows


def otherwise(
    lab: Lab, predictor: Predictor, volume: Volume, logits: np.ndarray, work: Path
) -> dict[str, dict[str, float]]:
    """Return the scores of a prediction over the body only, and by FSEFT's protocol as theirs and as ours."""
    inside = body_box(np.asarray(volume.image), lower_ends_of(lab.job))
    windowed = np.full_like(logits, -10.0)
    windowed[(slice(None), *inside[1:])] = predictor.logits(np.ascontiguousarray(volume.image[inside])).numpy()
    native = read_label_map(lab.dataset.label(volume.case), lab.dataset.structures)
    out = work / "prediction.nii.gz"
    _, properties = predictor.preprocessor.image(lab.dataset.images(volume.case))
    reference, ours = fseft.on_fseft_grid(native), {}
    for channel, (name, integers) in enumerate(integers_of(lab).items()):  # one by one: none is painted over another
        alone = np.full_like(logits, -10.0)
        alone[channel] = logits[channel]
        predictor.write(torch.from_numpy(alone).half(), dict(properties), out, lab.job.model().dataset_json)
        predicted = fseft.on_fseft_grid(read_label_map(out, lab.dataset.structures))
        ours[name] = fseft.fseft_dice(predicted.mask(integers), reference.mask(integers))
    nearest = on_shape(native.labels, logits.shape[1:])
    theirs = {
        name: fseft.fseft_dice(logits[channel] > 0, np.isin(nearest, integers))
        for channel, (name, integers) in enumerate(integers_of(lab).items())
    }
    return {
        "window": on_grid(lab, windowed, np.asarray(volume.labels[0])),
        "--protocol": ours,
        "their score": theirs,
    }


def integers_of(lab: Lab) -> dict[str, tuple[int, ...]]:
    return dict(lab.job.target.structures.integers)


def on_shape(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a label map resampled to a shape by nearest neighbour."""
    lines = [((np.arange(n) + 0.5) * len_ / n).astype(int) for n, len_ in zip(shape, labels.shape, strict=True)]
    return labels[np.ix_(*lines)]


def on_grid(lab: Lab, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the DSC of each structure on the grid of the preprocessed case."""
    members = enumerate(integers_of(lab).items())
    return {name: dice(logits[channel] > 0, np.isin(labels, integers)) for channel, (name, integers) in members}


PAIRS = (("clipped last", "fsseg"), ("window", "fsseg"), ("their score", "--protocol"))


def summary(rows: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    """Return the mean of each way, and the paired differences with intervals over cases."""

    def per_case(way: str) -> dict[str, float]:
        def of_seed(seed: int) -> dict[str, float]:
            found: dict[str, list[float]] = {}
            for row in rows:
                if (row["seed"], row["way"]) == (seed, way):
                    found.setdefault(row["case"], []).append(row["dsc"])
            return {case: float(np.nanmean(values)) for case, values in found.items()}

        return mean_over_seeds([of_seed(seed) for seed in seeds])

    lines = []
    for way, reference in PAIRS:
        of_way, of_reference = per_case(way), per_case(reference)
        difference = paired_difference(of_way, of_reference)
        means = [f"{np.mean(list(values.values())):.4f}" for values in (of_reference, of_way)]
        interval = f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
        largest = max(abs(of_way[case] - of_reference[case]) for case in of_way)
        lines.append([way, *means, interval, f"{largest:.4f}"])
    return text_table(["as FSEFT", "DSC without", "with", "difference, 95 % CI over cases", "largest"], lines)


def lab_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what `make_lab` needs, and of seeds and the folder for results."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for phantoms and base")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", type=int, default=8, help="cases in each of the three source sets")
    parser.add_argument("--tests", type=int, default=8, help="test cases")
    parser.add_argument("--steps", type=int, default=600, help="of the pretraining")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = lab_parser(__doc__)
    parser.add_argument("--method", default="linear_probe")
    parser.add_argument("--adapt-steps", type=int, default=200)
    args = parser.parse_args(words)
    fseft.SPACING_MM = SPACING_MM
    recipe = Recipe(**{**recipe_for("fseft", args.method, None, SHOTS), "max_steps": args.adapt_steps})
    lab = make_lab(args, args.method, recipe)
    rows = [row for seed in args.seeds for row in scores_of(lab, seed, args.work)]
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / f"{NAME}_{args.method}_per_case.csv", list(rows[0]), rows)
    options = f"--method {args.method} --steps {args.steps} --adapt-steps {args.adapt_steps}"
    where = f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    counts = f"{len(args.seeds)} support draws of {SHOTS} cases, {len(lab.tests)} test cases, {', '.join(STRUCTURES)}"
    text = f"python benchmarks/{NAME}.py {options}\n{where}\n{counts}\n\n{summary(rows, args.seeds)}\n"
    (args.out / f"{NAME}_{args.method}.txt").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
