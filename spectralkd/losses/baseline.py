"""No distillation: the student alone, and how teachers are trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spectralkd.losses.base import Method, Reading, cross_entropy


@dataclass(eq=False, repr=False)
class Baseline(Method):
    """Cross-entropy."""

    needs_teacher = False

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        return {"ce": cross_entropy(student, labels)}
