"""A table file that no test runs: its content, its cells, and finished runs of them that are made up."""

import math
from typing import Any

from fsseg.evaluation.aggregation import CaseRow
from fsseg.experiments.definition.grid import Cell, cells_of
from fsseg.experiments.definition.table_file import TableFile
from fsseg.experiments.results import NATIVE, Finished

SITE: dict[str, Any] = {
    "dataset": "target",
    "structures": ["liver", "larynx"],
    "pool": {"first": 3},
    "test": {"last": 2},
}
CONTENT: dict[str, Any] = {
    "title": "A table",
    "datasets": {
        "sources": {"specs": ["a", "b"], "id": 901, "name": "Sources"},
        "target": {"specs": ["c"], "id": 104, "name": "Target"},
    },
    "bases": {
        "ours": {"pretrained": {"dataset": "sources", "plans": "headneck_cpu", "settings": {"steps": 10}}},
        "public": {"imported": {"file": "public.pth", "page": "https://example.org"}},
    },
    "targets": {"site": SITE},
    "settings": {"recipe.max_steps": 7},
    "axes": {
        "method": ["full", {"label": "lora + decoder", "method": "lora", "decoder": "tuned", "options.rank": 3}],
        "shots": [1, 2],
        "seed": [0, 1],
    },
    "baselines": ["full"],
}


def table(**changes: Any) -> TableFile:
    return TableFile.model_validate({**CONTENT, **changes})


def cells(**changes: Any) -> list[Cell]:
    return cells_of(table(**changes), "the table")


def run(cell: Cell, liver: float, larynx: float) -> Finished:
    values = {"liver": liver, "larynx": larynx}
    rows = [
        CaseRow(case, name, value + 0.01 * index, 0.5, math.nan, 1.0, 1.0, "ok")
        for index, case in enumerate(("t1", "t2"))
        for name, value in values.items()
    ]
    manifest = {"parameters": {"trainable": 10, "head": 2}, "steps": 7, "fit_seconds": 3.0}
    return Finished(cell, {NATIVE: rows}, {**manifest, "peak_memory_mib": {"host": 100.0}})
