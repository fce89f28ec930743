"""The demo's numbers: a result per structure and method, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fsseg.demo.methods import NOVEL, DemoMethod
from fsseg.evaluation.aggregation import paired_difference, summarise_structures
from fsseg.evaluation.metrics_csv import read_case_rows

PLATEAU, STEP_CAP = "plateau", "step cap"
BASELINE = "from_scratch"
# All pretrained methods that train the decoder. A linear probe keeps the features of the pretraining as they are, so
# a structure that the pretraining never saw is not expected from it; it is in the table, but not in the verdict.
JUDGED = ("full", "decoder", "lora + decoder")
RULE = (
    f"For each test case, the DSC averaged over the novel structures is averaged over {', '.join(JUDGED)} (the"
    f" pretrained methods that train the decoder) and compared with that of {BASELINE}. Adaptation beats {BASELINE} if"
    " the 95 % bootstrap interval of the mean difference lies above zero."
)


@dataclass(frozen=True)
class DemoTraining:
    """How the adaptation by a method went.

    Attributes:
        trainable_parameters: with the head.
        seconds, steps: of the training alone.
        plateau: whether it ended because the loss fell no longer, rather than at the cap on the steps.
        support: the support cases.
    """

    trainable_parameters: int
    seconds: float
    steps: int
    plateau: bool
    support: tuple[str, ...]


@dataclass(frozen=True)
class StructureResult:
    """What a method reaches on a structure; a number that the test cases do not define is nan.

    Attributes:
        structure, novel: its name, and whether the pretraining never saw it.
        method: label of the method.
        dsc, dsc_sd: mean and sample sd over the test cases.
        cases: DSC of each test case.
        nsd, hd95_mm: means over the test cases.
        trainable_parameters, seconds, steps, support: as in `DemoTraining`.
        ended_by: what ended the training.
    """

    structure: str
    novel: bool
    method: str
    dsc: float
    dsc_sd: float
    cases: dict[str, float]
    nsd: float
    hd95_mm: float
    trainable_parameters: int
    seconds: float
    steps: int
    ended_by: str
    support: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether few-shot adaptation of the pretrained network beats training from scratch.

    Attributes:
        beats: whether it does.
        rule: how that is decided.
        structures: novel structure -> the two mean DSCs.
        difference, interval: mean paired difference over the test cases, and its 95 % bootstrap interval.
        text: all this in words.
    """

    beats: bool
    rule: str
    structures: dict[str, dict[str, float]]
    difference: float
    interval: tuple[float, float]
    text: str


def method_results(method: DemoMethod, training: DemoTraining, metrics: Path) -> list[StructureResult]:
    """Return one result per structure.

    Args:
        method: the method.
        training: how its adaptation went.
        metrics: the CSV that `fsseg evaluate` wrote for its predictions.
    """
    rows = read_case_rows(metrics)
    return [
        StructureResult(
            structure=name,
            novel=name in NOVEL,
            method=method.label,
            dsc=summary.dsc.mean,
            dsc_sd=summary.dsc.sd,
            cases={row.case: row.dsc for row in rows if row.structure == name},
            nsd=summary.nsd.mean,
            hd95_mm=summary.hd95_mm.mean,
            trainable_parameters=training.trainable_parameters,
            seconds=training.seconds,
            steps=training.steps,
            ended_by=PLATEAU if training.plateau else STEP_CAP,
            support=training.support,
        )
        for name, summary in summarise_structures(rows).items()
    ]


def judge(results: Sequence[StructureResult]) -> Verdict:
    """Decide by `RULE`.

    Args:
        results: of all methods, on at least two test cases.
    """
    means = {
        name: {"adapted": _mean_dsc(results, JUDGED, name), BASELINE: _mean_dsc(results, (BASELINE,), name)}
        for name in NOVEL
    }
    difference = paired_difference(_dsc_per_case(results, JUDGED), _dsc_per_case(results, (BASELINE,)))
    beats = difference.low > 0
    listing = ", ".join(f"{name} {mean['adapted']:.3f} against {mean[BASELINE]:.3f}" for name, mean in means.items())
    text = (
        f"Few-shot adaptation {'beats' if beats else 'does NOT beat'} {BASELINE} on the novel structures: mean DSC"
        f" {difference.mean:+.3f}, 95 % interval [{difference.low:+.3f}, {difference.high:+.3f}] over"
        f" {difference.n} test cases ({listing})."
    )
    return Verdict(beats, RULE, means, difference.mean, (difference.low, difference.high), text)


def _mean_dsc(results: Sequence[StructureResult], methods: Sequence[str], structure: str) -> float:
    return fmean(result.dsc for result in results if result.method in methods and result.structure == structure)


def _dsc_per_case(results: Sequence[StructureResult], methods: Sequence[str]) -> Mapping[str, float]:
    """Average the DSC of each test case over methods and novel structures."""
    chosen = [result.cases for result in results if result.method in methods and result.novel]
    return {case: fmean(cases[case] for cases in chosen) for case in chosen[0]}
