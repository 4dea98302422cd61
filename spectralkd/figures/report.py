"""HTML pages that commands write: text, tables and interactive figures in one file."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .25em .8em; border-bottom: 1px solid #ccc; text-align: right }
th:first-child, td:first-child { text-align: left }
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
        sections: (heading, body) in order; a body is an HTML fragment or a plotly figure.
    """
    parts, script = [], True
    for heading, body in sections:
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        if isinstance(body, str):
            parts.append(body)
        else:
            parts.append(body.to_html(full_html=False, include_plotlyjs=script))
            script = False
    Path(path).write_text(
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n",
        encoding="utf-8",
    )
