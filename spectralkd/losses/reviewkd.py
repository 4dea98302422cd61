"""Chen et al., *Distilling knowledge via knowledge review*, CVPR 2021, arXiv 2104.09044."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, Taps, cross_entropy, weighted_sum
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class ReviewKD(Method):
    """CE + w × Σ over stages of a pyramid's distance between the teacher's map and a review.

    The review of a stage is made of the student's map there and the review of the stage after it
    (ABF): a 1×1 convolution, a weighted sum with attention weights from both, a 3×3 convolution.
    The first review is that of the pooled features after the last stage. The distance (HCL) is
    the mean squared error of the maps and of their averages over 4×4, 2×2 and 1×1 cells.

    Different from mdistiller's code: w, which grows there over the first 20 epochs, is constant,
    and the student's maps are read before their ReLU for every network, as the teacher's are.

    Args:
        weight: w; 5 in mdistiller's setup for CIFAR-100, 1 by its default.
    """

    reads = "pre_relu"
    weight: Annotated[float, Range(0)] = 5.0

    def build(self, teacher: Taps, student: Taps) -> None:
        sides = [[shape[0] for shape in side.shapes] for side in (teacher, student)]
        outs, ins = ([*channels, channels[-1]] for channels in sides)
        middle = min(512, ins[-1])
        self.fusions = nn.ModuleList(
            Fusion(c_in, middle, c_out, later=number < len(ins) - 1)
            for number, (c_in, c_out) in enumerate(zip(ins, outs, strict=True))
        )

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        targets, maps = with_pooled(teacher.maps), with_pooled(student.maps)
        review, distances = None, []
        for fuse, target, s in reversed([*zip(self.fusions, targets, maps, strict=True)]):
            review, output = fuse(s, review)
            distances.append(pyramid_error(at_least_float32(target), at_least_float32(output)))
        distance = torch.stack(distances).sum()
        return {"ce": cross_entropy(student, labels), "review": self.weight * distance}


class Fusion(nn.Module):
    """ABF: a stage's map and the review of the stage after it, to the teacher's channels."""

    def __init__(self, channels_in: int, middle: int, channels_out: int, *, later: bool) -> None:
        super().__init__()
        narrow = nn.Conv2d(channels_in, middle, 1, bias=False)
        widen = nn.Conv2d(middle, channels_out, 3, padding=1, bias=False)
        for convolution in (narrow, widen):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.narrow = nn.Sequential(narrow, nn.BatchNorm2d(middle))
        self.widen = nn.Sequential(widen, nn.BatchNorm2d(channels_out))
        self.attention = nn.Conv2d(2 * middle, 2, 1) if later else None

    def forward(self, maps: Tensor, later: Tensor | None) -> tuple[Tensor, Tensor]:
        """The review (N, middle, H, W), and its map in the teacher's channels."""
        review = self.narrow(maps)
        if self.attention is not None and later is not None:
            later = functional.interpolate(later, review.shape[-2:], mode="nearest")
            weights = self.attention(torch.cat([review, later], 1)).sigmoid()
            review = review * weights[:, :1] + later * weights[:, 1:]
        return review, self.widen(review)


def with_pooled(maps: tuple[Tensor, ...]) -> list[Tensor]:
    """A network's maps, and the pooled features after its last ReLU as maps of one pixel."""
    return [*maps, functional.relu(maps[-1]).mean((2, 3), keepdim=True)]


def pyramid_error(teacher: Tensor, student: Tensor) -> Tensor:
    """HCL: mean squared errors of maps and of coarser averages, each level half the one before."""
    errors = [functional.mse_loss(student, teacher)]
    for cells in (4, 2, 1):
        if cells < teacher.shape[-2]:
            t, s = (functional.adaptive_avg_pool2d(maps, cells) for maps in (teacher, student))
            errors.append(functional.mse_loss(s, t))
    weights = [2.0**-level for level in range(len(errors))]
    return weighted_sum(weights, errors) / sum(weights)
