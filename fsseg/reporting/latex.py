"""Tables in LaTeX, with the rules of the booktabs package."""

from collections.abc import Sequence

from fsseg.reporting.tables import Bold, numeric_columns

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
}


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """Return a table environment; columns of numbers to the right, all text escaped.

    Args:
        header: one name per column.
        rows: one sequence of cells per row, each as long as the header.
        caption: text above the table.

    Raises:
        ValueError: a row has another number of cells than the header.
    """
    columns = "".join("r" if is_numeric else "l" for is_numeric in numeric_columns(header, rows))
    lines = [" & ".join(map(escaped, line)) + r" \\" for line in (header, *rows)]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Return text as LaTeX prints it."""
    printed = "".join(_ESCAPES.get(letter, letter) for letter in text)
    return rf"\textbf{{{printed}}}" if isinstance(text, Bold) else printed
