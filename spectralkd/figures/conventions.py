"""One set of maps by every definition of its spectrum."""

from __future__ import annotations

from collections.abc import Sequence

from spectralkd.analysis.conventions import Convention
from spectralkd.figures.tables import Style, format_table


def conventions_table(found: Sequence[Convention], style: Style = "text") -> str:
    """What ``conventions`` returns, with definitions and the offsets of the exponents."""
    base = found[0].exponent
    rows = [
        (each.name, each.definition, f"{each.exponent:.3f}", f"{each.exponent - base:+.3f}")
        for each in found
    ]
    header = ("convention", "definition", "exponent", "against the ring mean")
    return format_table(header, rows, style)
