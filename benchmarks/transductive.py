"""What the transductive size constraint changes, on phantoms: one network for each test case, with and without it.

On the phantoms and the base of benchmarks/fseft_differences.py. A linear probe with a new head is trained by
`--recipe medagi` on one support case, for 149 epochs, so that the constraint acts in the last hundred; on a pool of
features, which saves time. "size error" is |S - P| / max(S, P) of predicted and true voxels.

    python benchmarks/transductive.py --work /tmp/fseft_differences --out benchmarks/results
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import fsseg  # noqa: F401 - sets the OpenMP variables before torch is imported

# isort: split
import torch
from fseft_differences import STRUCTURES, Lab, integers_of, lab_parser, make_lab, on_grid

from fsseg.adaptation.settings import recipe_for
from fsseg.adaptation.start import make_start
from fsseg.adaptation.target import LabelledDataset, make_target
from fsseg.adaptation.training import train
from fsseg.config.csv_file import write_csv
from fsseg.config.recipes import Recipe
from fsseg.data.volumes import Volume
from fsseg.evaluation.aggregation import mean_over_seeds, paired_difference
from fsseg.nnunet.prediction import Predictor
from fsseg.reporting.tables import text_table

EPOCHS = 149
WAYS = ("inductive", "transductive")


def recipe_of_2023() -> Recipe:
    """Return the recipe, with more epochs than it has, and a pool of features."""
    settings = {"max_steps": EPOCHS, "plateau_first": EPOCHS + 1, "fresh_crops": False, "feature_crops": 60}
    return Recipe(**{**recipe_for("medagi", "linear_probe", None, 1), **settings})


def with_new_head(lab: Lab) -> Lab:
    """Return the lab with head rows that start at random."""
    target = make_target(LabelledDataset.of(lab.dataset), STRUCTURES, {})
    return replace(lab, job=replace(lab.job, target=target))


def scores_of(lab: Lab, seed: int) -> list[dict[str, Any]]:
    """Adapt from one support case, once for all test cases and once for each, and score."""
    support = lab.volumes([str(np.random.default_rng(seed).permutation(lab.pool)[0])], clipped_last=False)
    tests = lab.volumes(lab.tests, clipped_last=False)
    inductive = trained(lab, seed, support, None)
    rows: list[dict[str, Any]] = []
    for volume in tests:
        for way in WAYS:
            predictor = inductive if way == "inductive" else trained(lab, seed, support, volume)
            logits = predictor.logits(np.asarray(volume.image)).numpy()
            labels = np.asarray(volume.labels[0])
            dsc, size = on_grid(lab, logits, labels), size_errors(lab, logits, labels)
            of_case = {"seed": seed, "case": volume.case, "way": way}
            rows += [{**of_case, "structure": name, "dsc": dsc[name], "size": size[name]} for name in STRUCTURES]
    return rows


def trained(lab: Lab, seed: int, support: Sequence[Volume], query: Volume | None) -> Predictor:
    """Return the predictor of a training, which sees the image of a query."""
    start = make_start(replace(lab.job, seed=seed), support)
    if query is not None:
        start = replace(start, queries={query.case: np.asarray(query.image)})
    train(start, f"seed {seed}, {query.case if query else 'inductive'}")
    return Predictor(start.network.network, lab.job.model(), torch.device("cpu"))


def size_errors(lab: Lab, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the relative error of the size of each structure."""
    errors = {}
    for channel, (name, integers) in enumerate(integers_of(lab).items()):
        predicted, true = float((logits[channel] > 0).sum()), float(np.isin(labels, integers).sum())
        errors[name] = abs(predicted - true) / max(predicted, true)
    return errors


def summary(rows: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    """Return means of both ways and their paired difference over cases, by structure."""
    lines = []
    for measure in ("dsc", "size"):
        for name in STRUCTURES:
            both = []
            for way in WAYS:
                chosen = [row for row in rows if (row["way"], row["structure"]) == (way, name)]
                of_seeds = [{row["case"]: row[measure] for row in chosen if row["seed"] == seed} for seed in seeds]
                both.append(mean_over_seeds(of_seeds))
            inductive, transductive = both
            difference = paired_difference(transductive, inductive)
            means = [f"{np.mean(list(values.values())):.3f}" for values in both]
            interval = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
            lines.append(["DSC" if measure == "dsc" else "size error", name, *means, interval])
    return text_table(["", "structure", *WAYS, "difference, 95 % CI over cases"], lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and write."""
    args = lab_parser(__doc__).parse_args(words)
    lab = with_new_head(make_lab(args, "linear_probe", recipe_of_2023()))
    rows = [row for seed in args.seeds for row in scores_of(lab, seed)]
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "transductive_per_case.csv", list(rows[0]), rows)
    counts = f"{len(args.seeds)} draw(s) of one support case, {len(lab.tests)} test cases"
    options = f"--seeds {' '.join(map(str, args.seeds))} --tests {args.tests} --steps {args.steps}"
    where = f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    text = f"python benchmarks/transductive.py {options}\n{where}\n{counts}\n\n{summary(rows, args.seeds)}\n"
    (args.out / "transductive.txt").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
