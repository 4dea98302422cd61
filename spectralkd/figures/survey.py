"""A page on a network's spectra, as for the appendix of a paper."""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go

from spectralkd.analysis.survey import Survey, survey_tables
from spectralkd.figures.depth import blocks_figure, depth_figure
from spectralkd.figures.report import write_report
from spectralkd.figures.spectra import plot_spectra
from spectralkd.figures.tables import format_table


def write_survey(found: Survey, path: str | Path, name: str, caption: str) -> None:
    """Write the figures and tables of a survey as one HTML page that opens offline.

    Args:
        found: what ``survey`` returns.
        path: of the file.
        name: of the network.
        caption: how it was measured.
    """
    fits = {label: fit for label, fit in found.fits.items() if fit}
    figures: dict[str, list[go.Figure]] = {"Exponents": [plot_spectra(found.spectra, fits)]}
    if found.blocks:
        figures["Blocks"] = [depth_figure({name: found.blocks}), blocks_figure(found.blocks)]
    sections: list[tuple[str, str | go.Figure]] = [
        ("How measured", f"<p>{html.escape(caption)}</p>")
    ]
    for table in survey_tables(found):
        text = format_table(table.header, table.rows, style="html")
        sections += [(table.title, figure) for figure in figures.get(table.title, [])]
        sections.append(
            (f"{table.title}, numbers", f"{text}<p>{html.escape(table.convention)}</p>")
        )
    write_report(path, f"Power spectra of {name}", sections)
