"""Hinton, Vinyals & Dean, *Distilling the knowledge in a neural network*, arXiv 1503.02531."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading, check_classes, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class KD(Method):
    """(1 - w) CE + w T² KL(teacher ‖ student) of logits softened by T.

    Args:
        temperature: T; 4 in most comparisons, 3 in Heo et al.'s own code.
        weight: w.
    """

    temperature: Annotated[float, Range(0, ends="(]")] = 4.0
    weight: Annotated[float, Range(0, 1)] = 0.9

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        return kd_terms(teacher, student, labels, self.temperature, self.weight)


def kd_terms(
    teacher: Reading, student: Reading, labels: Tensor, temperature: float, weight: float
) -> dict[str, Tensor]:
    """(1 - weight) CE and weight × T² KL, by name."""
    divergence = softened_divergence(teacher.logits.detach(), student.logits, temperature)
    return {
        "ce": (1 - weight) * cross_entropy(student, labels),
        "kd": weight * temperature**2 * divergence,
    }


def softened_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of (N, K) logits over a temperature, in nats, mean over the batch.

    Raises:
        ValueError: the networks have different numbers of classes.
    """
    check_classes(teacher, student)
    log_t, log_s = (
        functional.log_softmax(at_least_float32(logits) / temperature, dim=1)
        for logits in (teacher, student)
    )
    return functional.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
