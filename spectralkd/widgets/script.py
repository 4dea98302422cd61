"""Widgets that a script of this package draws in the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
from traitlets import Unicode

_HERE = Path(__file__).parent


class Script(anywidget.AnyWidget):
    """A widget whose script calls ``hear``, and so is up to date also where the page was busy."""

    own_id = Unicode().tag(sync=True)

    def __init__(self, **values: Any) -> None:
        own = uuid4().hex
        super().__init__(model_id=own, own_id=own, **values)


def script(name: str) -> str:
    """A script of this folder, with what it needs before it."""
    return "".join((_HERE / part).read_text(encoding="utf-8") for part in ("hear.js", name))
