"""What all figures share: colors for any color vision, dashes, symbols, layout and axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from itertools import count
from typing import Any

import plotly.graph_objects as go

# Okabe & Ito's palette for any color vision; gray for black, so that light and dark pages show it,
# and without yellow, which is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
DASHES = ("solid", "dash", "dot", "dashdot")
# Two that gray print makes alike still differ; with 9 beside 7 colors, so do the first 63 pairs.
SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross"),
    "hexagon",
)

# Methods keep their colors from figure to figure.
_METHODS = ("overhaul", "spectral", "at", "fitnets", "kd", "jacobian", "baseline", "ft", "ab")


def slots(names: Iterable[str]) -> dict[str, int]:
    """An index of color and symbol for each name: a method's own, or the next that is free."""
    known = list(names)
    found = {name: _METHODS.index(name) for name in known if name in _METHODS}
    free = (number for number in count() if number not in found.values())
    return {name: found[name] if name in found else next(free) for name in known}


def look(slot: int, dash: int = 0) -> dict[str, object]:
    """Color, dash and symbol of a line with markers."""
    symbol = SYMBOLS[slot % len(SYMBOLS)] + ("-open" if dash else "")
    return {
        "line": {"color": COLORS[slot % len(COLORS)], "dash": DASHES[dash % len(DASHES)]},
        "marker": {"size": 6, "symbol": symbol},
    }


def mode(points: int) -> str:
    """Lines, with a marker at each point while markers can be told apart."""
    return "lines+markers" if points <= 64 else "lines"


def layout(title: str | None) -> dict[str, object]:
    """The layout that all figures share: as wide as the page, the legend below."""
    return {
        "title": {"text": title, "x": 0.02} if title else None,
        "template": "plotly_white",
        "hoverlabel": {"namelength": -1},
        "height": 460,
        "margin": {"l": 80, "r": 20, "t": 50 if title else 20, "b": 60},
        "legend": {
            "groupclick": "togglegroup",
            "orientation": "h",
            "x": 0,
            "y": -0.18,
            "yanchor": "top",
        },
    }


def nothing(text: str) -> go.Figure:
    """A figure that says why there is nothing to draw.

    It keeps its axes to itself: a figure that follows in the same place begins with its own.
    """
    figure = go.Figure(layout=layout(None) | {"uirevision": text})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.add_annotation(
        text="<br>".join(textwrap.wrap(text, 60)),
        showarrow=False,
        font_size=15,
        **{"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"},
    )


def power_axis(figure: go.Figure, values: Iterable[float], **place: Any) -> None:
    """A logarithmic axis of powers of ten, with 2 and 5 between where values span few of them."""
    positive = [value for value in values if value > 0]
    few = bool(positive) and max(positive) < 100 * min(positive)
    figure.update_yaxes(type="log", dtick="D2" if few else 1, exponentformat="power", **place)


def frequency_axis(figure: go.Figure) -> None:
    """|k| from 1/40 to beyond 1/2; for larger maps, the lower end is halved as often as needed."""
    drawn = (trace.x for trace in figure.data if trace.x is not None)
    smallest = min((k for x in drawn for k in x if k > 0), default=1.0)
    low = 1 / 40
    while low > smallest:
        low /= 2
    ticks = [2.0**-n for n in range(9, 0, -1)]
    figure.update_xaxes(
        title="|k| (cycles/pixel)",
        type="log",
        tickvals=ticks,
        ticktext=[f"1/{round(1 / tick)}" for tick in ticks],
        range=[math.log10(low), math.log10(0.55)],
    )
