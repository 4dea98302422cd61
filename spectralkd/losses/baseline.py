"""No distillation: the student alone, and how teachers are trained."""

from __future__ import annotations

from torch import Tensor

from spectralkd.losses.method import Method, Reading, Taps, cross_entropy


class Baseline(Method):
    """Cross-entropy."""

    needs_teacher = False

    def __init__(self, teacher: Taps, student: Taps) -> None:
        super().__init__()

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        return {"ce": cross_entropy(student, labels)}
