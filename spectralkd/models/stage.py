"""What a network tells of itself: where its stages end."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """One row of a network's table of taps; layers are named as ``features`` names them.

    Attributes:
        output: the layer whose output is the stage's own result, the map of Figs. 1 and 2.
        map: the layer that holds the stage's map just before a ReLU, the one distilled: an
            ``:input`` at the end reads what goes into the layer instead of what comes out.
        norm: the batch norm whose weight and bias give the margin of that map (Heo et al. 2019).
    """

    output: str
    map: str
    norm: str
