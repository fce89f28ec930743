"""A table as Markdown, LaTeX, CSV and one HTML page; cells that are missing or failed say so."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fsseg.config.csv_file import write_csv
from fsseg.evaluation.aggregation import Summary
from fsseg.experiments.columns import Column
from fsseg.experiments.grid import METHOD
from fsseg.experiments.paper_rows import beside
from fsseg.experiments.results import NATIVE, Number, Row
from fsseg.experiments.table_file import TableFile
from fsseg.reporting.html import Section, Table, write_report
from fsseg.reporting.latex import latex_table
from fsseg.reporting.tables import MISSING, count, markdown_table, mean_sd

_DECIMALS = 3
_METRICS = ("dsc", "nsd", "hd95_mm")


@dataclass(frozen=True)
class Page:
    """What is shown.

    Attributes:
        table: the table file.
        command: the command that makes it.
        columns: base -> the columns of its rows.
        rows: the rows.
    """

    table: TableFile
    command: str
    columns: Mapping[str, Sequence[Column]]
    rows: Sequence[Row]

    def write(self, folder: Path) -> None:
        """Write table.md, table.tex, table.html, numbers.csv and per_case.csv; each is complete or as it was."""
        sections = self.sections()
        write_report(folder / "table.html", self.table.title, sections)
        _replace(folder / "table.md", self._markdown(sections))
        _replace(folder / "table.tex", self._latex())
        _write_csv(folder / "numbers.csv", self._numbers())
        _write_csv(folder / "per_case.csv", self._per_case())

    def sections(self) -> list[Section]:
        """Return the parts of the page."""
        done, expected = sum(len(row.runs) for row in self.rows), sum(row.expected for row in self.rows)
        paragraphs = [self.table.about.strip(), f"{done} of {expected} runs are finished. Made by: {self.command}"]
        texts = [*filter(None, paragraphs), _DSC_TEXT, *self.table.differs]
        parts = [*self._papers(), Section("DSC", texts, [self._table(_dsc)])]
        for baseline in self._baselines():
            text = f"Paired difference of the DSC to {baseline}: mean over cases [95 % bootstrap interval]."
            parts.append(Section(f"Against {baseline}", [text], [self._table(_minus(baseline))]))
        parts.append(Section("Surfaces", [self._surface_text()], [self._table(_surfaces)]))
        parts.append(Section("Cost", [_COST_TEXT], [self._costs()]))
        failed = [f"{_name(row)}: {message}" for row in self.rows for message in row.failures]
        return [*parts, Section("Failed runs", failed)] if failed else parts

    def _papers(self) -> list[Section]:
        sections = []
        for paper in self.table.papers:
            found = beside(paper, self.rows)
            own = f"{found.ours} of its {found.cells} cells are ours, too." if found.ours else _NONE_OURS
            doubts = [f"Doubtful: {doubt}" for doubt in found.doubts]
            sections.append(Section(f"Beside the paper: {paper.source}", [own, _BESIDE_TEXT, *doubts], [found.table]))
        return sections

    def _table(self, cell: Callable[[Number], str]) -> Table:
        varied = self._varied()
        names = list(dict.fromkeys(column.name for columns in self.columns.values() for column in columns))
        header = [*varied, *names, "runs"]
        lines = []
        for row in self.rows:
            numbers = [row.numbers.get(name) for name in names]
            cells = [MISSING if number is None else cell(number) for number in numbers]
            lines.append([*(row.labels[axis] for axis in varied), *cells, _runs(row)])
        return Table(header, lines)

    def _baselines(self) -> list[str]:
        """Return the baselines that some row can be compared to by now."""
        compared = {name for row in self.rows for number in row.numbers.values() for name in number.minus}
        return [name for name in self.table.baselines if name in compared]

    def _varied(self) -> list[str]:
        """Return the axes that tell rows apart; the method always is one."""
        axes = list(self.rows[0].labels)
        return [axis for axis in axes if axis == METHOD or len({row.labels[axis] for row in self.rows}) > 1]

    def _costs(self) -> Table:
        varied = self._varied()
        lines = [
            [*(row.labels[axis] for axis in varied), *_cost(row)]
            for row in self.rows
            if row.runs and row.runs[0].manifest
        ]
        return Table([*varied, "trained parameters", "steps", "seconds", "peak memory [MiB]"], lines)

    def _surface_text(self) -> str:
        return (
            f"NSD at {self.table.scoring.tolerance_mm:g} mm / HD95 in mm, means over cases and seeds. A case with an"
            " empty mask has no HD95."
        )

    def _markdown(self, sections: Sequence[Section]) -> str:
        parts = [f"# {self.table.title}"]
        for section in sections:
            parts += [f"## {section.heading}", *section.paragraphs]
            parts += [markdown_table(table.header, table.rows) for table in section.tables]
        return "\n\n".join(parts) + "\n"

    def _latex(self) -> str:
        table = self._table(_dsc)
        return latex_table(table.header[:-1], [line[:-1] for line in table.rows], caption=self.table.title)

    def _numbers(self) -> list[dict[str, object]]:
        return [
            {
                **row.labels,
                "structures": name,
                "seeds": len(row.runs),
                "cases": number.dsc.n,
                "dsc": number.dsc.mean,
                "dsc_low": number.dsc.low,
                "dsc_high": number.dsc.high,
                "dsc_sd_over_seeds": number.sd_over_seeds,
                "nsd": number.nsd,
                "hd95_mm": number.hd95_mm,
            }
            for row in self.rows
            for name, number in row.numbers.items()
        ]

    def _per_case(self) -> list[dict[str, object]]:
        return [
            {
                **run.cell.labels,
                "case": line.case,
                "structure": line.structure,
                **{m: getattr(line, m) for m in _METRICS},
            }
            for row in self.rows
            for run in row.runs
            for line in run.rows[NATIVE]
        ]


_DSC_TEXT = "DSC: mean over cases of values that are averaged over seeds first ± sd over seeds of the mean."
_NONE_OURS = "None of its cells is ours yet."
_BESIDE_TEXT = "Ours with its 95 % bootstrap interval over cases; the paper's cells are as printed, without a spread."
_COST_TEXT = "Means over the runs of a row, on the machine that is named in their manifests."


def _dsc(number: Number) -> str:
    return mean_sd(number.dsc.mean, number.sd_over_seeds, _DECIMALS)


def _surfaces(number: Number) -> str:
    distance = MISSING if math.isnan(number.hd95_mm) else f"{number.hd95_mm:.1f}"
    return f"{number.nsd:.{_DECIMALS}f} / {distance}"


def _minus(baseline: str) -> Callable[[Number], str]:
    def cell(number: Number) -> str:
        difference = number.minus.get(baseline)
        return MISSING if difference is None else _with_interval(difference)

    return cell


def _with_interval(difference: Summary) -> str:
    if math.isnan(difference.mean):
        return MISSING
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _runs(row: Row) -> str:
    failed = f", {len(row.failures)} failed" if row.failures else ""
    return f"{len(row.runs)}/{row.expected}{failed}"


def _cost(row: Row) -> list[str]:
    manifests = [run.manifest for run in row.runs]
    parameters = manifests[0]["parameters"]
    steps = fmean(manifest["steps"] for manifest in manifests)
    peaks = [manifest["peak_memory_mib"] for manifest in manifests]
    memory = max(peak.get("device", peak["host"]) for peak in peaks)
    return [
        count(parameters["trainable"] + parameters["head"]),
        f"{steps:.0f}" if steps else MISSING,
        f"{fmean(manifest['fit_seconds'] for manifest in manifests):.0f}",
        count(round(memory)),
    ]


def _name(row: Row) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in row.labels.items())


def _write_csv(file: Path, lines: Sequence[dict[str, object]]) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    write_csv(temporary, list(lines[0]) if lines else [], lines)
    temporary.replace(file)


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
