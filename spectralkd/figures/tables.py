"""One table as aligned text, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tabulate import tabulate

from spectralkd.checks import check_choice

Style = Literal["text", "markdown", "html"]
_FORMATS = {"text": "simple", "markdown": "pipe", "html": "html"}


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], style: Style = "text"
) -> str:
    """The rows under their header; the first column is left-aligned, the others right-aligned.

    Raises:
        ValueError: a row's length is not the header's, or the style is unknown.
    """
    check_choice("style", style, Style)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"rows: expected {len(header)} cells as in the header, got {row}")
    align = ("left", *["right"] * (len(header) - 1))
    return tabulate(
        rows,
        header,
        tablefmt=_FORMATS[style],
        disable_numparse=True,
        colalign=align if rows else None,
    )
