"""The page of a comparison, and its tables as Markdown, LaTeX and CSV."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsseg.comparing.numbers import METRICS, Comparison, Difference, Scores
from fsseg.config.csv_file import write_csv
from fsseg.evaluation.metrics_csv import write_case_rows
from fsseg.evaluation.significance import LEVEL
from fsseg.reporting.charts import strip_figure
from fsseg.reporting.html import Picture, Section, Table, write_report
from fsseg.reporting.latex import latex_table
from fsseg.reporting.markdown import markdown_page
from fsseg.reporting.safe_sections import section_or_reason
from fsseg.reporting.tables import MISSING, Bold, mean_sd

TITLE = "Comparison"
METRICS_FOLDER = "metrics"  # with a file of every run
_MOST_CASES = 300  # in the table of cases
_MOST_STRIPS = 6  # columns that are drawn case by case


@dataclass(frozen=True)
class ComparisonPage:
    """What is shown.

    Attributes:
        comparison: the numbers; their cases are called what the page calls them.
        about: run -> method, support cases and trained parameters.
        notes: what a reader should know.
        command: that makes it, without paths.
        tolerance_mm: surfaces this close agree (NSD).
        pictures: sections with pictures of cases.
    """

    comparison: Comparison
    about: dict[str, str]
    notes: Sequence[str]
    command: str
    tolerance_mm: float
    pictures: Sequence[Section]

    def write(self, folder: Path) -> None:
        """Write compare.html, compare.md, compare.tex, numbers.csv, differences.csv and metrics/RUN.csv."""
        sections = self.sections()
        write_report(folder / "compare.html", TITLE, sections)
        (folder / "compare.md").write_text(markdown_page(TITLE, sections), encoding="utf-8")
        table = self._table(_dsc)
        (folder / "compare.tex").write_text(latex_table(table.header, table.rows, caption=TITLE), encoding="utf-8")
        for name, lines in (("numbers.csv", self._numbers()), ("differences.csv", self._differences())):
            write_csv(folder / name, list(lines[0]) if lines else [], lines)
        (folder / METRICS_FOLDER).mkdir(exist_ok=True)
        for run, rows in self.comparison.rows.items():
            write_case_rows(folder / METRICS_FOLDER / f"{run}.csv", rows)

    def sections(self) -> list[Section]:
        """Return the parts of the page."""
        return [
            Section("DSC", [*self._texts(), *self.notes], [self._table(_dsc)]),
            *self._against(),
            Section("Surfaces", [self._surface_text()], [self._table(_surfaces)]),
            self._cases(),
            *self.pictures,
            Section("What was compared", [f"Made by: {self.command}"], self._runs()),
        ]

    def _texts(self) -> list[str]:
        bold = [f"Bold: above {self.comparison.baseline} with p < {LEVEL:g}."] if len(self.comparison.rows) > 1 else []
        count = len({row.case for rows in self.comparison.rows.values() for row in rows})
        return [
            f"{count} cases. DSC: mean ± sd over cases [95 % bootstrap interval of the mean over cases]. A case"
            " without a structure in reference and prediction has no DSC of it.",
            *bold,
        ]

    def _against(self) -> list[Section]:
        baseline = self.comparison.baseline
        if len(self.comparison.rows) == 1:
            return []
        text = (
            f"DSC minus that of {baseline} on the same cases: mean [95 % bootstrap interval over cases], and p of"
            " Wilcoxon's signed-rank test over cases, corrected by Holm for all runs of the column."
        )
        table = self._table(_minus)
        others = [line for line in table.rows if line[0] != baseline]
        return [Section(f"Against {baseline}", [text], [Table(table.header, others)])]

    def _surface_text(self) -> str:
        return (
            f"NSD at {self.tolerance_mm:g} mm / HD95 in mm, means over cases. Where one mask of the two is empty there"
            " is no HD95."
        )

    def _table(self, cell: Callable[[Scores], str]) -> Table:
        columns = list(self.comparison.columns)
        lines = [[run, *(cell(self.comparison.scores(run, name)) for name in columns)] for run in self.comparison.rows]
        return Table(["run", *columns], lines)

    def _cases(self) -> Section:
        """Return a line a case: its DSC by every run, averaged over structures."""
        column = list(self.comparison.columns)[-1]
        by_run = {run: self.comparison.dsc_of_cases(run, column) for run in self.comparison.rows}
        cases = sorted({case for values in by_run.values() for case in values})
        lines = [[case, *(mean_sd(values[case], math.nan, 3) for values in by_run.values())] for case in cases]
        shown = [] if len(cases) <= _MOST_CASES else [f"The first {_MOST_CASES} of {len(cases)} cases by name."]
        text = f"DSC of each case, {'mean over structures' if len(self.comparison.columns) > 1 else column}."
        picture = section_or_reason("Cases", lambda: Section("Cases", pictures=[self._strip()])).pictures
        return Section("Cases", [text, *shown], [Table(["case", *by_run], lines[:_MOST_CASES])], picture)

    def _strip(self) -> Picture:
        columns = list(self.comparison.columns)[-_MOST_STRIPS:]
        panels = {
            column: {run: list(self.comparison.dsc_of_cases(run, column).values()) for run in self.comparison.rows}
            for column in columns
        }
        return Picture(strip_figure(panels, "DSC"), "A dot a case, a bar at the mean.", "DSC of each case by every run")

    def _runs(self) -> list[Table]:
        return [Table(["run", "what it is"], [[run, self.about[run] or MISSING] for run in self.comparison.rows])]

    def _numbers(self) -> list[dict[str, object]]:
        lines: list[dict[str, object]] = []
        for run in self.comparison.rows:
            for name in self.comparison.columns:
                scores = self.comparison.scores(run, name)
                means = {metric: getattr(scores, metric).mean for metric in METRICS}
                spread = {"cases": scores.dsc.n, "dsc_sd": scores.dsc.sd}
                bounds = {"dsc_low": scores.dsc.low, "dsc_high": scores.dsc.high}
                lines.append({"run": run, "structure": name, **spread, **means, **bounds})
        return lines

    def _differences(self) -> list[dict[str, object]]:
        lines: list[dict[str, object]] = []
        for run in self.comparison.rows:
            for name in self.comparison.columns:
                minus = self.comparison.scores(run, name).minus
                if minus is not None:
                    against = {"run": run, "baseline": self.comparison.baseline, "structure": name}
                    bounds = {"low": minus.dsc.low, "high": minus.dsc.high, "holm_p": minus.p}
                    lines.append({**against, "cases": minus.dsc.n, "dsc_difference": minus.dsc.mean, **bounds})
        return lines


def _dsc(scores: Scores) -> str:
    spread = scores.dsc
    interval = "" if math.isnan(spread.low) else f" [{spread.low:.3f}, {spread.high:.3f}]"
    text = mean_sd(spread.mean, spread.sd, 3) + interval
    return Bold(text) if scores.minus is not None and scores.minus.is_better else text


def _surfaces(scores: Scores) -> str:
    return f"{mean_sd(scores.nsd.mean, math.nan, 3)} / {mean_sd(scores.hd95_mm.mean, math.nan, 1)}"


def _minus(scores: Scores) -> str:
    return MISSING if scores.minus is None else with_interval(scores.minus)


def with_interval(difference: Difference) -> str:
    """Return a mean difference with its interval, signed, and the corrected p."""
    found = difference.dsc
    if math.isnan(found.mean):
        return MISSING
    interval = "" if math.isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.mean:+.3f}{interval}" + ("" if math.isnan(difference.p) else f", p {difference.p:.3f}")
