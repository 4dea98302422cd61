"""Code or a command that reproduces what a widget shows."""

from __future__ import annotations

from pathlib import Path

from traitlets import Unicode

from spectralkd.widgets.script import Script, script


class Code(Script):
    """Text with a button that copies it.

    Attributes:
        label: what it is, for screen readers.
        text: what is copied.
    """

    _esm = script("code.js")
    _css = Path(__file__).with_name("code.css")
    label = Unicode().tag(sync=True)
    text = Unicode().tag(sync=True)

    def __init__(self, label: str) -> None:
        super().__init__(label=label)
