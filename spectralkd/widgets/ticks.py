"""A list of checkboxes: searchable, with buttons that tick groups of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets import Dict, List, TraitError, Tuple, Unicode, observe, validate

from spectralkd.widgets.script import Script, script


class TickList(Script):
    """Named checkboxes that keyboards and screen readers can use, in one widget for all.

    Attributes:
        label: the heading.
        options: names of the boxes, in order.
        groups: names that a button ticks at once, by the button's text.
        value: names of those ticked, in the order of the boxes.
    """

    _esm = script("ticks.js")
    _css = Path(__file__).with_name("ticks.css")
    label = Unicode().tag(sync=True)
    options: tuple[str, ...] = Tuple().tag(sync=True)  # type: ignore[assignment]
    groups: dict[str, list[str]] = Dict(value_trait=List(Unicode())).tag(sync=True)  # type: ignore[assignment]
    value: tuple[str, ...] = Tuple().tag(sync=True)  # type: ignore[assignment]

    def __init__(self, label: str) -> None:
        super().__init__(label=label)

    @observe("options")
    def _keep_known(self, _: object) -> None:
        self.value = tuple(name for name in self.options if name in self.value)

    @validate("value")
    def _check(self, proposal: Mapping[str, Any]) -> tuple[str, ...]:
        if unknown := set(proposal["value"]) - set(self.options):
            raise TraitError(f"value: expected names among {self.options}, got {sorted(unknown)}")
        return tuple(name for name in self.options if name in proposal["value"])
