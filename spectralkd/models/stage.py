"""The stage table of a network."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """One row of a network's stage table; layers are named as in ``models.features``.

    Attributes:
        output: the layer whose output is the stage's result, the map of Figs. 1 and 2.
        pre_relu: the layer that holds the stage's map just before a ReLU, the map that is
            distilled; ``:input`` at the end reads what goes into the layer instead of what
            comes out.
        norm: the batch norm whose weight and bias give the margin of that map (Heo et al.
            2019); None where there is none.
    """

    output: str
    pre_relu: str
    norm: str | None = None
