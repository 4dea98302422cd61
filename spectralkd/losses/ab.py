"""Heo et al., *Knowledge transfer via distillation of activation boundaries*, AAAI 2019."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from spectralkd.checks import Range
from spectralkd.losses.base import (
    Method,
    Phase,
    Reading,
    Taps,
    connector,
    stage_weights,
    weighted_sum,
)
from spectralkd.losses.kd import softened_divergence
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class AB(Method):
    """First the student learns which neurons of the teacher are active, then KD.

    The first phase has no cross-entropy: weight × Σ over network stages of stage weight × the
    squared hinge on the sign of the teacher's pre-ReLU maps, over the batch. As in the authors'
    code, maps go through a connector only where their channels differ, the teacher uses batch
    statistics in the first phase, and the second phase is KL at T = 3 with neither T² nor CE.
    How many epochs the first phase takes is not in that code (RepDistiller takes 30).

    Different from that code: there the teacher's running statistics move during the first phase
    and the second phase evaluates with them; here the teacher stays as it was trained. Its
    learning rates (momentum restarted at 75 % of the first phase; drops by 5 at 30, 60 and 80 %
    of the second) are not built in: the first phase keeps the recipe's initial rate and the
    second follows the recipe.

    Args:
        margin: of the hinge.
        weight: of the first phase, whose stage weights are 1, 1/2, 1/4 from last to first.
        init_epochs: length of the first phase.
        temperature, kd_weight: of the second phase.
    """

    reads = "pre_relu"
    margin: Annotated[float, Range(0)] = 1.0
    weight: Annotated[float, Range(0)] = 3e-3
    init_epochs: Annotated[int, Range(0)] = 30
    temperature: Annotated[float, Range(0, ends="(]")] = 3.0
    kd_weight: Annotated[float, Range(0)] = 1.0

    @property
    def phases(self) -> tuple[Phase, ...]:
        boundaries = Phase("boundaries", self.init_epochs, teacher_statistics="batch")
        return (boundaries, Phase("train"))

    def build(self, teacher: Taps, student: Taps) -> None:
        self.connectors = nn.ModuleList(
            nn.Identity() if t[0] == s[0] else connector(s[0], t[0])
            for t, s in zip(teacher.shapes, student.shapes, strict=True)
        )

    def trainable_parameters(self, phase: str) -> Iterable[nn.Parameter]:
        return self.parameters() if phase == "boundaries" else ()

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        if phase == "train":
            kl = softened_divergence(teacher.logits, student.logits, self.temperature)
            return {"kd": self.kd_weight * kl}
        weights = stage_weights(len(teacher.maps))
        stages = zip(self.connectors, teacher.maps, student.maps, strict=True)
        distances = [
            boundary_hinge(at_least_float32(t), at_least_float32(connect(s)), self.margin)
            for connect, t, s in stages
        ]
        return {"ab": self.weight * weighted_sum(weights, distances) / len(labels)}


def boundary_hinge(teacher: Tensor, student: Tensor, margin: float = 1.0) -> Tensor:
    """Σ (s + m)² where s > -m but t <= 0, plus (s - m)² where s <= m but t > 0."""
    should_rest = (student + margin).square() * ((student > -margin) & (teacher <= 0))
    should_fire = (student - margin).square() * ((student <= margin) & (teacher > 0))
    return (should_rest + should_fire).sum()
