"""Zagoruyko & Komodakis, *Paying more attention to attention*, arXiv 1612.03928."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.losses.method import Method, Reading, Taps, check_sizes, cross_entropy


class AT(Method):
    """CE + β Σ over stages of the mean squared difference of attention maps.

    Args:
        weight: β; 1e3 goes with the mean over elements, as in the authors' code. Their paper
            writes β/2 and a norm.
    """

    reads = "output"

    def __init__(self, teacher: Taps, student: Taps, weight: float = 1e3) -> None:
        check_sizes(teacher, student)
        super().__init__()
        self.weight = weight

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        pairs = zip(student.maps, teacher.maps, strict=True)
        differences = [functional.mse_loss(attention(s), attention(t)) for s, t in pairs]
        distance = torch.stack(differences).sum()
        return {"ce": cross_entropy(student, labels), "at": self.weight * distance}


def attention(maps: Tensor) -> Tensor:
    """Channel mean of squares, of unit length per sample: (N, C, H, W) → (N, H·W)."""
    return functional.normalize(maps.float().square().mean(1).flatten(1))
