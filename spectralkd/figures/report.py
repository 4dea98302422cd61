"""HTML pages that commands write: text, tables and interactive figures in one file."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Wide tables and rows of panels scroll by themselves: the page never is wider than a phone.
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em }
h1 { line-height: 1.2 }
h2 { margin: 1.8em 0 .4em }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { padding: .25em .8em; border-bottom: 1px solid #ccc; text-align: right }
th, td { white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.figure { overflow-x: auto }
.panels > div { min-width: 640px }
"""


def has_plotly() -> bool:
    """Whether plotly is installed."""
    return importlib.util.find_spec("plotly") is not None


def write_report(
    path: str | Path, title: str, sections: Sequence[tuple[str, str | go.Figure]]
) -> None:
    """Write a page that opens offline.

    Args:
        path: of the file.
        title: of the page.
        sections: (heading, body) in order; a body is an HTML fragment or a plotly figure, drawn
            as wide as the page. An empty heading is left out.
    """
    parts, script = [], True
    for heading, body in sections:
        if heading:
            parts.append(f"<h2>{html.escape(heading)}</h2>")
        if isinstance(body, str):
            parts.append(body)
        else:
            panels = " panels" if "xaxis2" in body.layout else ""
            parts.append(f'<div class="figure{panels}">{_fitted(body, script)}</div>')
            script = False
    Path(path).write_text(
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n",
        encoding="utf-8",
    )


def _fitted(figure: go.Figure, script: bool) -> str:
    """A figure that takes the width of the page, with its legend below."""
    fitted = type(figure)(figure)
    # Plotly's buttons stand above, where a phone always shows them.
    fitted.update_layout(width=None, autosize=True, margin_l=60)
    fitted.update_layout(margin_t=30 + (figure.layout.margin.t or 30))
    below = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
    fitted.update_layout(legend=below)
    entries = sum(trace.showlegend is not False and bool(trace.name) for trace in fitted.data)
    fitted.update_layout(height=(figure.layout.height or 450) + 30 + 22 * entries)
    fitted.update_layout(margin_b=60 + 22 * entries)
    return fitted.to_html(
        full_html=False, include_plotlyjs=script, config={"responsive": True, "displaylogo": False}
    )
