"""A table as Markdown, LaTeX, CSV and one HTML page; cells that are missing or failed say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsseg.config.csv_file import write_csv
from fsseg.experiments.definition.columns import Column
from fsseg.experiments.definition.table_file import TableFile
from fsseg.experiments.page.paper_rows import Beside, beside
from fsseg.experiments.page.tables import PageTables
from fsseg.experiments.results import NATIVE, Row
from fsseg.reporting.html import Section, write_report
from fsseg.reporting.latex import latex_table
from fsseg.reporting.markdown import markdown_page

_METRICS = ("dsc", "nsd", "hd95_mm")


@dataclass(frozen=True)
class Page:
    """What is shown.

    Attributes:
        table: the table file.
        command: the command that makes it.
        columns: base -> the columns of its rows.
        rows: the rows.
        known: base -> the structures that its head names.
        names: case -> what the page calls it.
        words: what messages may hold and the page may not, such as folders -> what it says instead.
    """

    table: TableFile
    command: str
    columns: Mapping[str, Sequence[Column]]
    rows: Sequence[Row]
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> PageTables:
        """The tables of the page."""
        return PageTables(self.columns, self.rows, self.table.baselines)

    def write(self, folder: Path, pictures: Sequence[Section] = ()) -> None:
        """Write table.html, table.md, table.tex and the CSVs; each is complete or as it was.

        Args:
            folder: where they go.
            pictures: parts of the HTML page alone.
        """
        sections = self.sections()
        write_report(folder / "table.html", self.table.title, [*sections, *pictures])
        _replace(folder / "table.md", markdown_page(self.table.title, sections))
        _replace(folder / "table.tex", self._latex())
        _write_csv(folder / "numbers.csv", self._numbers())
        _write_csv(folder / "differences.csv", self._differences())
        _write_csv(folder / "per_case.csv", self._per_case())

    def sections(self) -> list[Section]:
        """Return the parts of the page."""
        tables = self.tables
        done, expected = sum(len(row.runs) for row in self.rows), sum(row.expected for row in self.rows)
        texts = [self.table.about.strip(), *self._bases(), *self.table.differs]
        texts.append(f"{done} of {expected} runs are finished. Made by: {self.command}")
        texts += _machines(self.rows)
        bold = [f"{_BOLD_TEXT} {' and '.join(tables.compared)}."] if tables.compared else []
        parts = [Section("About", list(filter(None, texts))), *self._papers()]
        parts.append(Section("DSC", [_DSC_TEXT, *bold], [tables.scores()]))
        for baseline in tables.compared:
            parts.append(Section(f"Against {baseline}", [_MINUS_TEXT], [tables.minus(baseline)]))
        parts.append(Section("Surfaces", [self._surface_text()], [tables.surfaces()]))
        parts.append(Section("Cost", [_COST_TEXT], [tables.costs()]))
        failed = [f"{_name(row)}: {self._public(message)}" for row in self.rows for message in row.failures]
        return [*parts, Section("Failed runs", failed)] if failed else parts

    def _bases(self) -> list[str]:
        """Return a sentence for each base: what it knows of the table's structures."""
        lines = []
        for base, names in self.known.items():
            known = [name for name in self.table.structures if name in names]
            novel = [name for name in self.table.structures if name not in names]
            lines.append(f"The base {base} knows {', '.join(known) or 'none'}; novel: {', '.join(novel) or 'none'}.")
        return lines

    def _public(self, message: str) -> str:
        """Return a message in the page's words; longer ones first, as the name of a case may begin another's."""
        for text, shown in sorted({**self.words, **self.names}.items(), key=lambda pair: -len(pair[0])):
            message = message.replace(text, shown)
        return message

    def _papers(self) -> list[Section]:
        sections = []
        for paper in self.table.papers:
            found = beside(paper, self.rows)
            texts = [] if found.table is None else [_how_many(found), _BESIDE_TEXT.format(paper.protocol)]
            texts += [f"Not among ours: {row}" for row in found.absent]
            texts += [f"Doubtful: {doubt}" for doubt in found.doubts] + ([_BESIDE_COST_TEXT] if found.costs else [])
            tables = [table for table in (found.table, found.costs) if table is not None]
            sections.append(Section(f"Beside the paper: {paper.source}", texts, tables))
        return sections

    def _surface_text(self) -> str:
        return (
            f"NSD at {self.table.scoring.tolerance_mm:g} mm / HD95 in mm, means over cases and seeds. A case with an"
            " empty mask has no HD95."
        )

    def _latex(self) -> str:
        table = self.tables.scores()
        return latex_table(table.header[:-1], [line[:-1] for line in table.rows], caption=self.table.title)

    def _numbers(self) -> list[dict[str, object]]:
        return [
            {
                **row.labels,
                "structures": name,
                "seeds": len({run.cell.replicate for run in row.runs}),
                "cases": number.dsc.n,
                "dsc": number.dsc.mean,
                "dsc_low": number.dsc.low,
                "dsc_high": number.dsc.high,
                "dsc_sd_over_seeds": number.sd_over_seeds,
                "nsd": number.nsd,
                "hd95_mm": number.hd95_mm,
                **{f"dsc_{protocol}": number.mean_of(protocol) for protocol in self.table.scoring.protocols},
            }
            for row in self.rows
            for name, number in row.numbers.items()
        ]

    def _differences(self) -> list[dict[str, object]]:
        return [
            {
                **row.labels,
                "structures": name,
                "minus": baseline,
                "cases": found.dsc.n,
                "dsc": found.dsc.mean,
                "dsc_low": found.dsc.low,
                "dsc_high": found.dsc.high,
                "p": found.p,
                "holm_p": found.holm_p,
            }
            for row in self.rows
            for name, number in row.numbers.items()
            for baseline, found in number.minus.items()
        ]

    def _per_case(self) -> list[dict[str, object]]:
        return [
            {
                **run.cell.labels,
                "case": self.names.get(line.case, line.case),
                "structure": line.structure,
                **{m: getattr(line, m) for m in _METRICS},
            }
            for row in self.rows
            for run in row.runs
            for line in run.rows[NATIVE]
        ]


_DSC_TEXT = "Mean over cases of values that are averaged over seeds first ± sd over seeds of the mean."
_BOLD_TEXT = "Bold is ahead by more than chance (corrected p < .05) of"
_MINUS_TEXT = (
    "Paired difference of the DSC: mean over cases [95 % bootstrap interval], p of Wilcoxon's signed-rank test over"
    " cases after Holm's correction for all methods of this column at equal other labels."
)
_BESIDE_TEXT = (
    "Ours by the scoring protocol {}, with its 95 % bootstrap interval over cases; the paper's cells are as printed,"
    " without a spread."
)
_BESIDE_COST_TEXT = "Parameters with those of the head. Minutes of a training, each on a machine of its own."
_COST_TEXT = "Means over the runs of a row, on the machine that is named in their manifests; of memory the most."


def _how_many(found: Beside) -> str:
    if not found.ours:
        return "None of its cells is ours yet."
    return f"{found.ours} of its {found.cells} cells are ours, too."


def _machines(rows: Sequence[Row]) -> list[str]:
    """Return a sentence about the code and the hardware of the runs, without names of computers."""
    manifests = [run.manifest for row in rows for run in row.runs if "machine" in run.manifest]
    found = dict.fromkeys(
        f"fsseg {made['versions']['fsseg']}, torch {made['versions']['torch']} on"
        f" {', '.join(made['machine']['cuda_devices']) or made['machine']['cpu'].strip()}"
        for made in manifests
    )
    return [f"Adapted with {'; '.join(found)}."] if found else []


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
