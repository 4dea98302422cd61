"""Heo et al., *Knowledge transfer via distillation of activation boundaries*, AAAI 2019."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spectralkd.losses.kd import softened_divergence
from spectralkd.losses.method import (
    Method,
    Phase,
    Reading,
    Taps,
    check_sizes,
    connector,
    cross_entropy,
    stage_weights,
)


class AB(Method):
    """First the student learns which neurons of the teacher are active, then KD.

    The first stage has no cross-entropy: weight × Σ over stages of stage weight × the squared
    hinge on the sign of the teacher's maps before their ReLU, over the batch. As in the authors'
    code, maps go through a connector only where their channels differ, the teacher uses batch
    statistics in the first stage, and the second is KL at T = 3 with neither T² nor CE. How many
    epochs the first stage takes is not in that code (RepDistiller takes 30).

    Args:
        margin: of the hinge.
        weight: of the first stage, whose stage weights are 1, 1/2, 1/4 from last to first.
        init_epochs: length of the first stage.
        temperature: of the second stage.
        ce_weight, kd_weight: of the second stage's terms.
    """

    def __init__(
        self,
        teacher: Taps,
        student: Taps,
        margin: float = 1.0,
        weight: float = 3e-3,
        init_epochs: int = 30,
        temperature: float = 3.0,
        ce_weight: float = 0.0,
        kd_weight: float = 1.0,
    ) -> None:
        check_sizes(teacher, student)
        super().__init__()
        self.margin, self.weight, self.temperature = margin, weight, temperature
        self.ce_weight, self.kd_weight = ce_weight, kd_weight
        self.connectors = nn.ModuleList(
            nn.Identity() if s[0] == t[0] else connector(s[0], t[0])
            for s, t in zip(student.shapes, teacher.shapes, strict=True)
        )
        self.phases = (
            Phase("boundaries", init_epochs, teacher_statistics="batch"),
            Phase("train"),
        )

    def trained(self, phase: str) -> Iterable[nn.Parameter]:
        return self.parameters() if phase == "boundaries" else ()

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        if phase == "train":
            kl = softened_divergence(student.logits, teacher.logits, self.temperature)
            return {
                "ce": self.ce_weight * cross_entropy(student, labels),
                "kd": self.kd_weight * kl,
            }
        total = torch.zeros((), device=labels.device)
        stages = zip(
            stage_weights(len(teacher.maps)),
            self.connectors,
            student.maps,
            teacher.maps,
            strict=True,
        )
        for weight, connect, s, t in stages:
            total = total + weight * boundary_hinge(connect(s).float(), t.float(), self.margin)
        return {"ab": self.weight * total / len(labels)}


def boundary_hinge(student: Tensor, teacher: Tensor, margin: float = 1.0) -> Tensor:
    """Σ (s + m)² where s > -m but t <= 0, plus (s - m)² where s <= m but t > 0."""
    should_rest = (student + margin).square() * ((student > -margin) & (teacher <= 0))
    should_fire = (student - margin).square() * ((student <= margin) & (teacher > 0))
    return (should_rest + should_fire).sum()
