"""Zagoruyko & Komodakis, *Paying more attention to attention*, arXiv 1612.03928."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class AT(Method):
    """CE + β Σ over stages of the mean squared difference of attention maps.

    Args:
        weight: β; 1e3 goes with the mean over elements, as in the authors' code. Their paper
            writes β/2 and a norm.
    """

    reads = "output"
    weight: Annotated[float, Range(0)] = 1e3

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        pairs = zip(teacher.maps, student.maps, strict=True)
        differences = [functional.mse_loss(attention(t), attention(s)) for t, s in pairs]
        distance = torch.stack(differences).sum()
        return {"ce": cross_entropy(student, labels), "at": self.weight * distance}


def attention(maps: Tensor) -> Tensor:
    """Channel mean of squares, of unit length per sample: (N, C, H, W) → (N, H·W)."""
    return functional.normalize(at_least_float32(maps).square().mean(1).flatten(1))
