"""Maps on which distances are tried."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = -0.8


def maps(count: int = 4, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth random maps, (count, size, size) float32 of deviation about 1."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, size, size, generator=generator)
    smooth = white + white.roll(1, -1) + white.roll(1, -2)
    return smooth / smooth.std()
