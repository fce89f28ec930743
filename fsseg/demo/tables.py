"""The tables of the demo: a row per method, a column per structure."""

import math
from collections.abc import Callable, Sequence

from fsseg.demo.results import StructureResult
from fsseg.reporting.tables import count, mean_sd

Cells = tuple[list[str], list[list[str]]]  # header and rows


def results_table(results: Sequence[StructureResult]) -> Cells:
    """Return header and rows of the DSC table, with what each method cost."""
    header, rows = _by_method(results, lambda result: mean_sd(result.dsc, result.dsc_sd))
    costs = {
        result.method: [count(result.trainable_parameters), str(result.steps), f"{result.seconds:.0f}"]
        for result in results
    }
    return [*header, "trainable parameters", "steps", "seconds"], [[*row, *costs[row[0]]] for row in rows]


def distances_table(results: Sequence[StructureResult]) -> Cells:
    """Return header and rows of the surface metrics: NSD / HD95 in mm."""
    return _by_method(results, lambda result: f"{result.nsd:.2f} / {mean_sd(result.hd95_mm, math.nan, 1)}")


def _by_method(results: Sequence[StructureResult], cell: Callable[[StructureResult], str]) -> Cells:
    novel = {result.structure: result.novel for result in results}
    header = ["method", *(f"{name} (novel)" if is_novel else name for name, is_novel in novel.items())]
    cells = {(result.method, result.structure): cell(result) for result in results}
    methods = dict.fromkeys(result.method for result in results)
    return header, [[method, *(cells[method, name] for name in novel)] for method in methods]
