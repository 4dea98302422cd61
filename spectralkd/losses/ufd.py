"""*Unified frequency decoupling knowledge distillation* (UFD-KD), 2025: constant and rest apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, Taps, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class UFD(Method):
    """CE + distances of the last maps, whose zero frequency (DC) and rest (AC) are scaled apart.

    A cosine transform splits a map into DC and AC. Each part is scaled to unit length, so that
    strong low frequencies do not hide weak high ones, and compared by squares summed over
    elements and averaged over images:

    - over space, DC is a channel's mean over pixels, AC the rest; unit length over channels;
    - over channels, DC is a pixel's mean over channels, AC the rest; unit length over pixels.

    The DC of a cosine transform is the mean, so none is computed here. The student's map goes
    through a 1×1 convolution to the teacher's channels and, for each of the two distances, through
    two 3×3 convolutions with a ReLU between them. That is the projector of the authors' code for
    segmentation; their code for classification has attention with positions in its place, adds KD
    at T = 1, and compares the last maps, as here.

    Args:
        spatial_dc, spatial_ac, channel_dc, channel_ac: weights; those of the authors' CIFAR-100
            runs with maps of 7×7 pixels.
    """

    reads = "output"
    spatial_dc: Annotated[float, Range(0)] = 0.03
    spatial_ac: Annotated[float, Range(0)] = 0.065
    channel_dc: Annotated[float, Range(0)] = 0.003
    channel_ac: Annotated[float, Range(0)] = 0.0065

    def build(self, teacher: Taps, student: Taps) -> None:
        channels = teacher.shapes[-1][0]
        self.align = nn.Conv2d(student.shapes[-1][0], channels, 1)
        self.spatial, self.channel = projector(channels), projector(channels)

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        t, s = at_least_float32(teacher.maps[-1]).flatten(2), self.align(student.maps[-1])
        over_space, over_channels = (
            at_least_float32(project(s)).flatten(2) for project in (self.spatial, self.channel)
        )
        dc, ac = decoupled_errors(t, over_space, constant_over=2, unit_over=1)
        spatial = self.spatial_dc * dc + self.spatial_ac * ac
        dc, ac = decoupled_errors(t, over_channels, constant_over=1, unit_over=2)
        channel = self.channel_dc * dc + self.channel_ac * ac
        return {"ce": cross_entropy(student, labels), "spatial": spatial, "channel": channel}


def projector(channels: int) -> nn.Sequential:
    """Two 3×3 convolutions with a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )


def decoupled_errors(
    teacher: Tensor, student: Tensor, *, constant_over: int, unit_over: int
) -> tuple[Tensor, Tensor]:
    """Squared distances of the DC and of the AC parts, summed over elements, mean over images.

    Args:
        teacher, student: (N, C, H·W).
        constant_over: dimension over which the DC part is constant.
        unit_over: dimension over which a part is scaled to unit length.
    """
    means = [maps.mean(constant_over, keepdim=True) for maps in (teacher, student)]
    dc = [functional.normalize(mean.expand_as(teacher), dim=unit_over) for mean in means]
    ac = [
        functional.normalize(maps - mean, dim=unit_over)
        for maps, mean in zip((teacher, student), means, strict=True)
    ]
    of_dc, of_ac = (functional.mse_loss(s, t, reduction="sum") / len(teacher) for t, s in (dc, ac))
    return of_dc, of_ac
