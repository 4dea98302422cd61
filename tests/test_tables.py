"""Can a table be read again in the style it was written in?"""

from __future__ import annotations

import csv
import io

import pytest

from spectralkd.figures.tables import Style, format_table

HEADER = ("layer, block", "α", "share")
ROWS = [("group_1, first", "−2.20 ± 0.05", "50 %"), ('say "two"', "", "3 & 4")]


def test_csv_is_read_back() -> None:
    text = format_table(HEADER, ROWS, "csv")
    assert [tuple(row) for row in csv.reader(io.StringIO(text))] == [HEADER, *ROWS]


def test_latex_is_escaped() -> None:
    lines = format_table(HEADER, ROWS, "latex").splitlines()
    assert lines[:2] == [r"\begin{tabular}{lrr}", r"\toprule"]
    assert [cell.strip() for cell in lines[2].rstrip("\\ ").split("&")] == [
        "layer, block",
        r"$\alpha$",
        "share",
    ]
    assert r"group\_1, first" in lines[4]
    assert r"$-$2.20 ± 0.05" in lines[4]
    assert r"50 \%" in lines[4]
    assert r"3 \& 4" in lines[5]


@pytest.mark.parametrize("style", ["text", "markdown", "html", "latex", "csv"])
def test_every_cell_is_there(style: Style) -> None:
    text = format_table(("a", "b"), [("first", "1.50")], style)
    assert "first" in text
    assert "1.50" in text
    assert format_table(("a", "b"), [], style)


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="style: expected one of 'text', .*, got 'pdf'"):
        format_table(("a",), [("1",)], "pdf")  # type: ignore[arg-type]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="rows: expected 2 cells as in the header, got"):
        format_table(("a", "b"), [("1",)])
