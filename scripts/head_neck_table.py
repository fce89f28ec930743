"""Tables of scripts/head_neck.py: per-case values first, then means with intervals and paired differences."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.csv_file import read_csv, write_csv
from fsseg.evaluation.aggregation import mean_over_seeds, paired_difference, summarise_seeds
from fsseg.reporting.tables import count, markdown_table

BASELINES = ("from_scratch", "full")
PerCase = dict[str, float]


def write_tables(
    jobs: Sequence[Any],
    scored: Path,
    results: Path,
    preset: str,
    known: Sequence[str],
    novel: Sequence[str],
    command: str,
) -> list[Path]:
    """Write per-case CSV, JSON summary and Markdown table; return their paths.

    Args:
        jobs: finished jobs with label, shots, seed, folder and metrics.
        scored: folder with zero_shot/metrics.csv.
        results: folder to write into.
        preset: part of the file names.
        known, novel: structures.
        command: the command that made the table, written into it.
    """
    results.mkdir(parents=True, exist_ok=True)
    rows = [{"method": j.label, "shots": j.shots, "seed": j.seed, **row} for j in jobs for row in read_csv(j.metrics)]
    zero = [
        {"method": "zero-shot", "shots": 0, "seed": 0, **row} for row in read_csv(scored / "zero_shot" / "metrics.csv")
    ]
    per_case, summary_file, table = (
        results / f"head_neck_{preset}{ending}" for ending in ("_per_case.csv", ".json", ".md")
    )
    write_csv(per_case, list(rows[0]), zero + rows)
    groups = [*known, "mean of known", *novel, "mean of novel"]
    members = {name: [name] for name in [*known, *novel]} | {"mean of known": [*known], "mean of novel": [*novel]}
    summary = _summary(rows, groups, members)
    summary_file.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    table.write_text(_markdown(jobs, rows, zero, groups, members, summary, command), encoding="utf-8")
    return [per_case, summary_file, table]


def _per_seed(rows: list[dict], method: str, shots: int, names: Sequence[str], metric: str) -> list[PerCase]:
    """Return for each seed case -> mean of the metric over the named structures (one structure: its value)."""
    chosen = [r for r in rows if r["method"] == method and r["shots"] == shots and r["structure"] in names]
    per_seed = []
    for seed in sorted({row["seed"] for row in chosen}):
        values: dict[str, list[float]] = {}
        for row in chosen:
            if row["seed"] == seed and row[metric] not in ("", "nan"):
                values.setdefault(row["case"], []).append(float(row[metric]))
        per_seed.append({case: float(np.mean(found)) for case, found in values.items()})
    return per_seed


def _summary(rows: list[dict], groups: Sequence[str], members: dict[str, list[str]]) -> list[dict[str, Any]]:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    entries = []
    fewer: dict[tuple[str, str], PerCase] = {}  # the same method and structure with the next smaller number of shots
    for shots in sorted({row["shots"] for row in rows}):
        for group in groups:
            dsc = {m: _per_seed(rows, m, shots, members[group], "dsc") for m in methods}
            for method in methods:
                seeds = summarise_seeds(dsc[method])
                entry: dict[str, Any] = {"structure": group, "method": method, "shots": shots, "seeds": seeds.seeds}
                entry |= {"dsc": seeds.over_cases.mean, "low": seeds.over_cases.low, "high": seeds.over_cases.high}
                entry |= {"sd_over_seeds": _or_none(seeds.sd_over_seeds), "cases": seeds.over_cases.n}
                for baseline in BASELINES:
                    if method != baseline and baseline in methods:
                        gap = paired_difference(mean_over_seeds(dsc[method]), mean_over_seeds(dsc[baseline]))
                        entry[f"minus_{baseline}"] = [gap.mean, gap.low, gap.high]
                before, fewer[group, method] = fewer.get((group, method)), mean_over_seeds(dsc[method])
                if before is not None:
                    gap = paired_difference(fewer[group, method], before)
                    entry["minus_fewer_shots"] = [gap.mean, gap.low, gap.high]
                entry["nsd"] = _mean(rows, method, shots, members[group], "nsd")
                entry["hd95_mm"] = _mean(rows, method, shots, members[group], "hd95_mm")
                entries.append(entry)
    return entries


def _mean(rows: list[dict], method: str, shots: int, names: Sequence[str], metric: str) -> float | None:
    per_seed = _per_seed(rows, method, shots, names, metric)
    found = [value for seed in per_seed for value in seed.values()]
    return float(np.mean(found)) if found else None


def _markdown(
    jobs: Sequence[Any],
    rows: list[dict],
    zero: list[dict],
    groups: Sequence[str],
    members: dict[str, list[str]],
    summary: list[dict[str, Any]],
    command: str,
) -> str:
    parts = [f"Made by `{command}`."]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for shots in sorted({row["shots"] for row in rows}):
        of_shots = [entry for entry in summary if entry["shots"] == shots]
        cases, seeds = of_shots[0]["cases"], of_shots[0]["seeds"]
        parts.append(
            f"\n**{shots} shot{'s' if shots > 1 else ''}.** DSC, mean over {cases} cases"
            f" (values averaged over {seeds} seeds first) ± sd over seeds of the mean.\n"
        )
        parts.append(_dsc_table(of_shots, zero, methods, groups, members))
        for baseline in (name for name in BASELINES if name in methods):
            parts.append(f"\nPaired difference to {baseline}, mean over cases [95 % bootstrap interval]:\n")
            parts.append(
                _difference_table(of_shots, [m for m in methods if m != baseline], groups, f"minus_{baseline}")
            )
        if "minus_fewer_shots" in of_shots[0]:
            parts.append("\nPaired difference to the next smaller number of shots:\n")
            parts.append(_difference_table(of_shots, methods, groups, "minus_fewer_shots"))
        parts.append("\nNSD at 2 mm / HD95 in mm (cases with an empty prediction have no HD95):\n")
        parts.append(_surface_table(of_shots, methods, groups))
        parts.append("\nCost per run:\n")
        parts.append(_cost_table([job for job in jobs if job.shots == shots], methods))
    return "\n".join(parts) + "\n"


def _dsc_table(
    entries: list[dict], zero: list[dict], methods: Sequence[str], groups: Sequence[str], members: dict[str, list[str]]
) -> str:
    complete = {row["structure"] for row in zero}

    def cell(method: str, group: str) -> str:
        if method == "zero-shot":
            if not complete >= set(members[group]):
                return "–"
            (pretrained,) = _per_seed(zero, method, 0, members[group], "dsc")
            return f"{np.mean(list(pretrained.values())):.3f}"
        entry = _find(entries, group, method)
        spread = "" if entry["sd_over_seeds"] is None else f" ± {entry['sd_over_seeds']:.3f}"
        return f"{entry['dsc']:.3f}{spread}"

    return _table(["zero-shot", *methods], groups, cell)


def _difference_table(entries: list[dict], methods: Sequence[str], groups: Sequence[str], key: str) -> str:
    def cell(method: str, group: str) -> str:
        mean, low, high = _find(entries, group, method)[key]
        return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"

    return _table(methods, groups, cell)


def _surface_table(entries: list[dict], methods: Sequence[str], groups: Sequence[str]) -> str:
    def cell(method: str, group: str) -> str:
        entry = _find(entries, group, method)
        distance = "–" if entry["hd95_mm"] is None else f"{entry['hd95_mm']:.1f}"
        return f"{entry['nsd']:.3f} / {distance}"

    return _table(methods, groups, cell)


def _table(methods: Sequence[str], groups: Sequence[str], cell: Callable[[str, str], str]) -> str:
    """Lay methods and structures out; what there is more of goes down the page."""
    if len(methods) > len(groups):
        lines = [[method, *(cell(method, group) for group in groups)] for method in methods]
        return markdown_table(["method", *groups], lines)
    lines = [[group, *(cell(method, group) for method in methods)] for group in groups]
    return markdown_table(["structure", *methods], lines)


def _cost_table(jobs: Sequence[Any], methods: Sequence[str]) -> str:
    lines = []
    for method in methods:
        manifests = [
            json.loads((job.run / "manifest.json").read_text(encoding="utf-8")) for job in jobs if job.label == method
        ]
        parameters = manifests[0]["parameters"]
        steps = ", ".join(_steps(manifest) for manifest in manifests)
        duration = np.mean([m["fit_seconds"] for m in manifests])
        lines.append([method, count(parameters["trainable"] + parameters["head"]), steps, f"{duration:.0f}"])
    return markdown_table(["method", "trained parameters", "steps per seed", "seconds (one thread)"], lines)


def _steps(manifest: dict) -> str:
    """Return the steps of an adaptation and whether the cap ended it; a training-free method takes none."""
    if not manifest["steps"]:
        return "–"
    return f"{manifest['steps']}{'' if manifest['plateau'] else ' (cap)'}"


def _find(entries: list[dict], group: str, method: str) -> dict:
    return next(entry for entry in entries if entry["structure"] == group and entry["method"] == method)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
