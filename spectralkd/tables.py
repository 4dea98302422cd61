"""One table as aligned text, Markdown or HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal

from spectralkd.spectrum import check_choice

Style = Literal["text", "markdown", "html"]


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
    if style == "html":
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "\n".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Sequence[str], between: str) -> str:
        first, *rest = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return between.join(cells)

    if style == "markdown":
        rules = [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
        lines = [f"| {line(row, ' | ')} |" for row in (header, *rows)]
        return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]])
    rule = "  ".join("─" * width for width in widths)
    return "\n".join([line(header, "  "), rule, *(line(row, "  ") for row in rows)])
