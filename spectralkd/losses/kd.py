"""Hinton, Vinyals & Dean, *Distilling the knowledge in a neural network*, arXiv 1503.02531."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from spectralkd.losses.method import Method, Reading, Taps, cross_entropy


class KD(Method):
    """(1 - w) CE + w T² KL(teacher ‖ student) of logits softened by T.

    Args:
        temperature: T; 4 in most comparisons, 3 in Heo et al.'s own code.
        weight: w.
    """

    def __init__(
        self, teacher: Taps, student: Taps, temperature: float = 4.0, weight: float = 0.9
    ) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        return kd_terms(student, teacher.logits, labels, self.temperature, self.weight)


def kd_terms(
    student: Reading, teacher: Tensor, labels: Tensor, temperature: float, weight: float
) -> dict[str, Tensor]:
    """(1 - weight) CE and weight × T² KL, by name; ``teacher`` is its (N, K) logits."""
    divergence = softened_divergence(student.logits, teacher, temperature)
    return {
        "ce": (1 - weight) * cross_entropy(student, labels),
        "kd": weight * temperature**2 * divergence,
    }


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of (N, K) logits over a temperature, in nats, mean over the batch."""
    log_s = functional.log_softmax(student.float() / temperature, dim=1)
    log_t = functional.log_softmax(teacher.float() / temperature, dim=1)
    return functional.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
