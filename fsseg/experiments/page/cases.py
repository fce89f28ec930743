"""The cases of a table's page: worst, median and best of each structure, and a viewer, for a few chosen runs."""

from collections.abc import Mapping, Sequence

from fsseg.comparing.numbers import Comparison
from fsseg.comparing.pictures import CasePictures
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.experiments.definition.columns import mean_column
from fsseg.experiments.definition.grid import METHOD, SHOTS
from fsseg.experiments.open_table import OpenTable
from fsseg.experiments.results import NATIVE, Finished, Row
from fsseg.reporting.html import Section

_MOST_RUNS, _MOST_TARGETS = 4, 3  # that are drawn


def case_sections(opened: OpenTable, rows: Sequence[Row], names: Mapping[str, str]) -> list[Section]:
    """Return pictures of cases by the baselines and the best others with the most shots, one run of each.

    Args:
        opened: the table.
        rows: its rows.
        names: case -> what the page calls it.
    """
    targets = list(dict.fromkeys(cell.target for cell in opened.cells))
    sections = []
    for target in targets[:_MOST_TARGETS]:
        runs = _shown_runs(opened, rows, target)
        if runs:
            sections += _sections(opened, target, runs, names)
    if not sections:
        return [Section("Cases", ["No picture yet: they are drawn of adaptations whose predictions are there."])]
    if len(targets) > _MOST_TARGETS:
        sections.append(Section("Other cases", [f"Drawn are the first {_MOST_TARGETS} of {len(targets)} targets."]))
    return sections


def _sections(opened: OpenTable, target: str, runs: Mapping[str, Finished], names: Mapping[str, str]) -> list[Section]:
    dataset = opened.place.dataset(opened.table.datasets[opened.table.targets[target].dataset])
    first = next(iter(runs))
    comparison = Comparison(
        rows={name: run.rows[NATIVE] for name, run in runs.items()},
        structures=tuple(dict.fromkeys(row.structure for row in runs[first].rows[NATIVE])),
        baseline=first,
    )
    pictures = CasePictures(
        comparison=comparison,
        reference=open_label_folder(dataset / "labelsTr"),
        predictions={name: open_label_folder(opened.run(run.cell).predictions) for name, run in runs.items()},
        images=dataset / "imagesTr",
        names=names,
    )
    return pictures.sections()


def _shown_runs(opened: OpenTable, rows: Sequence[Row], target: str) -> dict[str, Finished]:
    """Return method -> one run on a target: of the baselines first, then of the others from the best on."""
    runs = [run for row in rows for run in row.runs if run.cell.target == target and not run.cell.is_zero_shot]
    drawable = [run for run in runs if opened.run(run.cell).predictions.is_dir()]
    if not drawable:
        return {}
    shots = [run.cell.labels.get(SHOTS, "") for run in drawable]
    most = max(dict.fromkeys(shots), key=shots.count)  # the number that most runs have
    chosen: dict[str, Finished] = {}
    for run in drawable:
        if run.cell.labels.get(SHOTS, "") == most:
            chosen.setdefault(run.cell.labels[METHOD], run)
    baselines = opened.table.baselines
    order = sorted(chosen, key=lambda name: (name not in baselines, -_mean_dsc(chosen[name])))
    return {name: chosen[name] for name in order[:_MOST_RUNS]}


def _mean_dsc(run: Finished) -> float:
    structures = sorted({row.structure for row in run.rows[NATIVE]})
    return run.mean(mean_column("mean", structures))
