"""Zhao et al., *Decoupled knowledge distillation*, CVPR 2022, arXiv 2203.08679."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, check_classes, cross_entropy
from spectralkd.losses.kd import softened_divergence
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class DKD(Method):
    """CE + α TCKD + β NCKD: KD's divergence in two parts, weighted apart.

    TCKD is T² KL(teacher ‖ student) of two probabilities, that of the labeled class and that of
    all others; NCKD is T² KL among the other classes. KD is TCKD + (1 - p) NCKD, with the
    teacher's probability p of the labeled class: what a teacher is sure of, it hardly teaches.

    Different from the authors' code (mdistiller): there both weights grow linearly over the
    first 20 epochs; here they are constant.

    Args:
        temperature: T.
        alpha, beta: β is 6 for WRN-40-2 → WRN-16-2 and up to 8 elsewhere.
    """

    temperature: Annotated[float, Range(0, ends="(]")] = 4.0
    alpha: Annotated[float, Range(0)] = 1.0
    beta: Annotated[float, Range(0)] = 8.0

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        target, others = decoupled(teacher.logits, student.logits, labels, self.temperature)
        square = self.temperature**2
        return {
            "ce": cross_entropy(student, labels),
            "tckd": self.alpha * square * target,
            "nckd": self.beta * square * others,
        }


def decoupled(
    teacher: Tensor, student: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """KL of labeled class against the rest, and KL among the rest; nats, means over the batch.

    Args:
        teacher, student: (N, K) logits.
        labels: (N,) int64.

    Raises:
        ValueError: the networks have different numbers of classes.
    """
    check_classes(teacher, student)
    others = torch.arange(student.shape[1] - 1, device=labels.device)
    others = others + (others >= labels[:, None])
    pairs = []
    for logits in (teacher, student):
        soft = at_least_float32(logits) / temperature
        rest = soft.gather(1, others)
        target = soft.gather(1, labels[:, None])
        pairs.append((torch.cat([target, rest.logsumexp(1, keepdim=True)], dim=1), rest))
    (two_t, rest_t), (two_s, rest_s) = pairs
    return softened_divergence(two_t, two_s, 1.0), softened_divergence(rest_t, rest_s, 1.0)
