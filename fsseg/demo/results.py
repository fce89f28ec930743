"""The demo's numbers: which methods are compared, a result per structure and method, and the verdict."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fsseg.config.csv_file import read_csv
from fsseg.config.recipes import DecoderChoice
from fsseg.evaluation.aggregation import CaseRow, paired_difference, summarise_structures
from fsseg.reporting.tables import count, mean_sd

Result = Mapping[str, Any]


@dataclass(frozen=True)
class DemoMethod:
    """A method that the demo compares: how it is called in the table, and what `fsseg adapt` runs."""

    label: str
    name: str
    decoder: DecoderChoice | None = None

    @property
    def folder(self) -> str:
        """Name of its folders."""
        return self.label.replace(" + ", "_")


METHODS = (
    DemoMethod("from_scratch", "from_scratch"),
    DemoMethod("full", "full"),
    DemoMethod("linear_probe", "linear_probe"),
    DemoMethod("decoder", "decoder"),
    DemoMethod("lora + decoder", "lora", "tuned"),
)
KNOWN, NOVEL = ("liver", "kidney_left"), ("stomach", "pancreas")
STRUCTURES = (*KNOWN, *NOVEL)

_NUMBERS = ("dsc", "nsd", "hd95_mm", "volume_prediction_ml", "volume_reference_ml")
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


def method_results(method: DemoMethod, manifest: Result, metrics: Path) -> list[dict[str, Any]]:
    """Return one result per structure.

    Args:
        method: the method.
        manifest: the manifest of its adaptation.
        metrics: the CSV that `fsseg evaluate` wrote for its predictions.
    """
    rows = _read_rows(metrics)
    parameters = manifest["parameters"]
    return [
        {
            "structure": name,
            "novel": name in NOVEL,
            "method": method.label,
            "dsc": summary.dsc.mean,
            "dsc_sd": _plain(summary.dsc.sd),
            "cases": {row.case: row.dsc for row in rows if row.structure == name},
            "nsd": summary.nsd.mean,
            "hd95_mm": _plain(summary.hd95_mm.mean),
            "trainable_parameters": parameters["trainable"] + parameters["head"],
            "seconds": manifest["fit_seconds"],
            "steps": manifest["steps"],
            "ended_by": PLATEAU if manifest["plateau"] else STEP_CAP,
            "support": list(manifest["support"]),
        }
        for name, summary in summarise_structures(rows).items()
    ]


def judge(results: Sequence[Result]) -> dict[str, Any]:
    """Decide by `RULE` whether few-shot adaptation of the pretrained network beats training from scratch.

    Args:
        results: of all methods, on at least two test cases.

    Returns:
        `beats`, `rule`, per novel structure the two means, the mean paired `difference` with its `interval`, and
        `text`, which says it in words.
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
    return {
        "beats": beats,
        "rule": RULE,
        "structures": means,
        "difference": difference.mean,
        "interval": [difference.low, difference.high],
        "text": text,
    }


def results_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the DSC table: a row per method, a column per structure, and what it cost."""
    header, rows = _by_method(results, lambda result: mean_sd(result["dsc"], _number(result["dsc_sd"])))
    costs = {
        result["method"]: [count(result["trainable_parameters"]), str(result["steps"]), f"{result['seconds']:.0f}"]
        for result in results
    }
    return [*header, "trainable parameters", "steps", "seconds"], [[*row, *costs[row[0]]] for row in rows]


def distances_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the surface metrics, NSD / HD95 in mm: a row per method, a column per structure."""
    return _by_method(
        results, lambda result: f"{result['nsd']:.2f} / {mean_sd(_number(result['hd95_mm']), math.nan, 1)}"
    )


def _by_method(results: Sequence[Result], cell: Callable[[Result], str]) -> tuple[list[str], list[list[str]]]:
    novel = {result["structure"]: result["novel"] for result in results}
    header = ["method", *(f"{name} (novel)" if is_novel else name for name, is_novel in novel.items())]
    cells = {(result["method"], result["structure"]): cell(result) for result in results}
    methods = dict.fromkeys(result["method"] for result in results)
    return header, [[method, *(cells[method, name] for name in novel)] for method in methods]


def _read_rows(metrics: Path) -> list[CaseRow]:
    rows = []
    for row in read_csv(metrics):
        numbers = {column: float(row[column]) for column in _NUMBERS}
        rows.append(CaseRow(case=row["case"], structure=row["structure"], status=row["status"], **numbers))
    return rows


def _mean_dsc(results: Sequence[Result], methods: Sequence[str], structure: str) -> float:
    return fmean(r["dsc"] for r in results if r["method"] in methods and r["structure"] == structure)


def _dsc_per_case(results: Sequence[Result], methods: Sequence[str]) -> dict[str, float]:
    """Average the DSC of each test case over methods and novel structures."""
    chosen = [result["cases"] for result in results if result["method"] in methods and result["novel"]]
    return {case: fmean(cases[case] for cases in chosen) for case in chosen[0]}


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else number


def _number(value: float | None) -> float:
    return math.nan if value is None else value
