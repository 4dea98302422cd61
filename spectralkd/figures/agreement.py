"""Ring correlation of students with their teacher."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from spectralkd.analysis.agreement import StageAgreement
from spectralkd.figures.style import frequency_axis, layout, look, slots


def agreement_figure(
    students: Mapping[str, Mapping[str, StageAgreement]],
    *,
    title: str | None = None,
    ceiling: bool = True,
    colors: Mapping[str, int] | None = None,
) -> go.Figure:
    """Ring correlation of students with their teacher against |k|, one panel per stage.

    Args:
        students: results of ``stage_agreement`` with one teacher, by the student's name.
        title: above the figure; default: none.
        ceiling: also draw ``StageAgreement.ceiling``, dotted.
        colors: by the student's name; default: ``style.slots``.
    """
    stages = list(next(iter(students.values())))
    figure = make_subplots(1, len(stages), subplot_titles=stages, shared_yaxes=True)
    slot = colors or slots(students)
    for name, result in students.items():
        for column, stage in enumerate(stages, start=1):
            agreement = result[stage]
            curves = [(name, agreement.correlation, 0)]
            if ceiling:
                curves.append((f"{name}, any connector", agreement.ceiling, 2))
            for label, values, dash in curves:
                figure.add_trace(
                    go.Scatter(
                        x=agreement.frequency[1:].numpy(),
                        y=values[1:].numpy(),
                        name=label,
                        legendgroup=label,
                        showlegend=column == 1,
                        mode="lines" if dash else "lines+markers",
                        **look(slot[name], dash),
                    ),
                    1,
                    column,
                )
    frequency_axis(figure)
    figure.update_yaxes(range=[-0.05, 1.05])
    figure.update_yaxes(title="ring correlation (no unit)", row=1, col=1)
    figure.update_layout(**layout(title))
    figure.update_layout(height=420, margin_t=70 if title else 40)
    return figure.update_annotations(font_size=14)
