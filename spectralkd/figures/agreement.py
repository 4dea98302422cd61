"""Ring correlation of students with their teacher."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spectralkd.analysis.agreement import StageAgreement
from spectralkd.figures.style import COLORS, SYMBOLS, frequency_axis, layout


def agreement_figure(
    students: Mapping[str, Mapping[str, StageAgreement]],
    title: str | None = None,
    *,
    ceiling: bool = True,
) -> go.Figure:
    """Ring correlation of students with their teacher against |k|, one panel per stage.

    Args:
        students: results of ``stage_agreement`` with one teacher, by the student's name.
        title: above the figure; default: none.
        ceiling: also draw ``StageAgreement.ceiling``, dotted.
    """
    stages = list(next(iter(students.values())))
    figure = make_subplots(1, len(stages), subplot_titles=stages, shared_yaxes=True)
    for number, (name, result) in enumerate(students.items()):
        color = COLORS[number % len(COLORS)]
        for column, stage in enumerate(stages, start=1):
            agreement = result[stage]
            curves = [(name, agreement.correlation, "solid")]
            if ceiling:
                curves.append((f"{name}, any connector", agreement.ceiling, "dot"))
            for label, values, dash in curves:
                figure.add_trace(
                    go.Scatter(
                        x=agreement.frequency[1:].numpy(),
                        y=values[1:].numpy(),
                        name=label,
                        legendgroup=label,
                        showlegend=column == 1,
                        mode="lines+markers" if dash == "solid" else "lines",
                        line={"color": color, "dash": dash},
                        marker={"size": 5, "symbol": SYMBOLS[number % 5]},
                    ),
                    1,
                    column,
                )
    frequency_axis(figure)
    figure.update_yaxes(range=[-0.05, 1.05])
    figure.update_yaxes(title="ring correlation (no unit)", row=1, col=1)
    figure.update_layout(**layout(title))
    figure.update_layout(height=380, margin_t=70 if title else 40)
    return figure
