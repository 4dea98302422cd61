"""What all figures share: colors for any color vision, dashes, symbols, layout and axes."""

from __future__ import annotations

import math

import plotly.graph_objects as go

# Okabe & Ito's palette for any color vision, without yellow, which is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


def layout(title: str | None) -> dict[str, object]:
    """The layout that all figures share."""
    return {
        "title": {"text": title, "x": 0.02} if title else None,
        "template": "plotly_white",
        "width": 860,
        "height": 460,
        "margin": {"l": 80, "r": 20, "t": 50 if title else 20, "b": 60},
        "legend": {"groupclick": "togglegroup"},
    }


def frequency_axis(figure: go.Figure) -> None:
    """|k| from 1/40 to beyond 1/2; for larger maps, the lower end is halved as often as needed."""
    drawn = (trace.x for trace in figure.data if trace.x is not None and len(trace.x))
    smallest = min((min(x) for x in drawn), default=1.0)
    low = 1 / 40
    while low > smallest > 0:
        low /= 2
    ticks = [2.0**-n for n in range(9, 0, -1)]
    figure.update_xaxes(
        title="|k| (cycles/pixel)",
        type="log",
        tickvals=ticks,
        ticktext=[f"1/{round(1 / tick)}" for tick in ticks],
        range=[math.log10(low), math.log10(0.55)],
    )
