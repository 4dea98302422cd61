"""One table as aligned text, Markdown, HTML, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from tabulate import tabulate

from spectralkd.checks import check_choice

Style = Literal["text", "markdown", "html", "latex", "csv"]
_FORMATS = {"text": "simple", "markdown": "pipe", "html": "html", "latex": "latex_booktabs"}
# What LaTeX has no letter for unless a package is loaded.
_MATH = {"α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "Δ": r"\Delta", "−": "-"}


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], style: Style = "text"
) -> str:
    """The rows under their header; the first column is left-aligned, the others right-aligned.

    Args:
        header, rows: texts, not yet escaped.
        style: ``"latex"`` needs LaTeX's package booktabs.

    Raises:
        ValueError: a row's length is not the header's, or the style is unknown.
    """
    check_choice("style", style, Style)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"rows: expected {len(header)} cells as in the header, got {row}")
    if style == "csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
        return file.getvalue().rstrip("\n")
    align = ("left", *["right"] * (len(header) - 1))
    table: str = tabulate(
        rows,
        header,
        tablefmt=_FORMATS[style],
        disable_numparse=True,
        colalign=align if rows else None,
    )
    if style == "latex":
        for letter, command in _MATH.items():
            table = table.replace(letter, f"${command}$")
    return table
