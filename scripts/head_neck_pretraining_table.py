"""Tables of scripts/head_neck_pretraining.py: held-out source cases; the target site before and after adaptation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.csv_file import read_csv, write_csv
from fsseg.evaluation.aggregation import mean_over_seeds, paired_difference, summarise, summarise_seeds
from fsseg.reporting.tables import markdown_table

BASELINE = "default"
JOINED = "one network per dataset"  # every held-out case by the network of its own dataset
PerCase = dict[str, float]


def write_tables(
    encoders: Sequence[Any],
    results: Path,
    known: Sequence[str],
    novel: Sequence[str],
    seeds: int,
    command: str,
) -> list[Path]:
    """Write per-case CSV, JSON summary and Markdown; return their paths.

    Args:
        encoders: finished encoders with label, run, held_out_metrics, zero_shot_metrics and adapted_metrics(seed).
        results: folder to write into.
        known, novel: structures.
        seeds: adaptations of every encoder.
        command: the command that made the tables.
    """
    results.mkdir(parents=True, exist_ok=True)
    held_out = [row for e in encoders for row in _rows("held out", e, e.held_out_metrics)]
    zero_shot = [row for e in encoders for row in _rows("zero-shot", e, e.zero_shot_metrics)]
    adapted = [
        row for e in encoders for seed in range(seeds) for row in _rows("adapted", e, e.adapted_metrics(seed), seed)
    ]
    stem = results / "head_neck_pretraining"
    per_case, summary_file, table = (
        stem.with_name(f"{stem.name}{ending}") for ending in ("_per_case.csv", ".json", ".md")
    )
    write_csv(per_case, list(held_out[0]), held_out + zero_shot + adapted)
    labels = [encoder.label for encoder in encoders]
    of_known = {name: [name] for name in known} | {"mean of known": list(known)}
    groups = of_known | {name: [name] for name in novel} | {"mean of novel": list(novel)}
    summary = {
        "held_out": _unadapted(held_out + _joined(held_out), [*labels, JOINED], of_known),
        "zero_shot": _unadapted(zero_shot, labels, of_known),
        "adapted": _adapted(adapted, labels, groups, seeds),
    }
    summary_file.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    table.write_text(
        _markdown(summary, labels, list(of_known), list(groups), encoders[0].steps, command), encoding="utf-8"
    )
    return [per_case, summary_file, table]


def _rows(scored: str, encoder: Any, file: Path, seed: int | None = None) -> list[dict[str, Any]]:
    return [{"scored": scored, "encoder": encoder.label, "seed": seed, **row} for row in read_csv(file)]


def _joined(rows: list[dict]) -> list[dict]:
    """Return the rows of the networks of one dataset as those of one encoder."""
    return [row | {"encoder": JOINED} for row in rows if row["encoder"].endswith(" alone")]


def _per_case(rows: list[dict], names: Sequence[str]) -> PerCase:
    """Return case -> mean DSC over the named structures that the case annotates."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["structure"] in names and row["dsc"] not in ("", "nan"):
            values.setdefault(row["case"], []).append(float(row["dsc"]))
    return {case: float(np.mean(found)) for case, found in values.items()}


def _interval(summary: Any) -> dict[str, float]:
    return {"dsc": summary.mean, "low": summary.low, "high": summary.high, "cases": summary.n}


def _unadapted(rows: list[dict], labels: Sequence[str], groups: dict[str, list[str]]) -> list[dict[str, Any]]:
    entries = []
    for label in labels:
        own = [row for row in rows if row["encoder"] == label]
        for group, names in groups.items():
            # A network of one dataset knows that dataset's structures only.
            if {row["structure"] for row in own}.issuperset(names):
                found = _per_case(own, names)
                baseline = _per_case([row for row in rows if row["encoder"] == BASELINE], names)
                gap = paired_difference(found, {case: baseline[case] for case in found})
                entry = {"encoder": label, "structure": group, **_interval(summarise(found.values()))}
                entries.append(entry | {f"minus_{BASELINE}": [gap.mean, gap.low, gap.high]})
    return entries


def _adapted(rows: list[dict], labels: Sequence[str], groups: dict[str, list[str]], seeds: int) -> list[dict[str, Any]]:
    def per_seed(label: str, group: str) -> list[PerCase]:
        of_label = [row for row in rows if row["encoder"] == label]
        return [_per_case([r for r in of_label if r["seed"] == seed], groups[group]) for seed in range(seeds)]

    entries = []
    for label in labels:
        for group in groups:
            own = per_seed(label, group)
            spread = summarise_seeds(own)
            gap = paired_difference(mean_over_seeds(own), mean_over_seeds(per_seed(BASELINE, group)))
            entry = {"encoder": label, "structure": group, **_interval(spread.over_cases)}
            entry |= {"sd_over_seeds": spread.sd_over_seeds, f"minus_{BASELINE}": [gap.mean, gap.low, gap.high]}
            entries.append(entry)
    return entries


def _markdown(
    summary: dict[str, list[dict[str, Any]]],
    labels: Sequence[str],
    of_known: Sequence[str],
    groups: Sequence[str],
    steps: int,
    command: str,
) -> str:
    others = [label for label in labels if label != BASELINE]
    parts = [
        f"Made by `{command}`: {steps} steps of pretraining for every encoder, once. Intervals are over cases; how much"
        " another seed of the pretraining would change is not in them.\n",
        "**Held-out source cases**, DSC of annotated structures, mean over cases [95 % bootstrap interval]:\n",
        _table(summary["held_out"], [*labels, JOINED], of_known, _with_interval),
        f"\nPaired difference to {BASELINE}:\n",
        _table(summary["held_out"], [*others, JOINED], of_known, _gap),
        "\n**The target site without adaptation** (its pool), DSC, mean over cases [95 % bootstrap interval]:\n",
        _table(summary["zero_shot"], labels, of_known, _with_interval),
        f"\nPaired difference to {BASELINE}:\n",
        _table(summary["zero_shot"], others, of_known, _gap),
        "\n**After adaptation to five cases of the target site** (full fine-tuning), DSC on its test cases ± sd over"
        " seeds:\n",
        _table(summary["adapted"], labels, groups, _with_sd),
        f"\nPaired difference to {BASELINE}:\n",
        _table(summary["adapted"], others, groups, _gap),
    ]
    return "\n".join(parts) + "\n"


def _table(entries: list[dict[str, Any]], labels: Sequence[str], names: Sequence[str], cell: Any) -> str:
    found = {(entry["encoder"], entry["structure"]): cell(entry) for entry in entries}
    lines = [[label, *(found.get((label, name), "–") for name in names)] for label in labels]
    return markdown_table(["encoder", *names], lines)


def _with_interval(entry: dict[str, Any]) -> str:
    return f"{entry['dsc']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def _with_sd(entry: dict[str, Any]) -> str:
    return f"{entry['dsc']:.3f} ± {entry['sd_over_seeds']:.3f}"


def _gap(entry: dict[str, Any]) -> str:
    mean, low, high = entry[f"minus_{BASELINE}"]
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
