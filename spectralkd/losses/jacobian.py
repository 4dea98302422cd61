"""Srinivas & Fleuret, *Knowledge transfer with Jacobian matching*, arXiv 1803.00443."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.losses.kd import kd_terms
from spectralkd.losses.method import Method, Reading, Taps


class Jacobian(Method):
    """KD + w times the squared difference of normalised input gradients.

    The gradient of one logit by the image, of unit length per sample, is matched between the
    networks; the student's gradient goes through it (double backward). There is no official
    code, and neither its weight nor its reduction in Heo et al.'s comparison is known; the
    public ones take the mean over all elements with weight 20.

    Args:
        weight: w, for the mean over batch and image elements.
        of: whose class picks the logit: the ``"label"``, or the ``"teacher"``'s largest logit.
        temperature, kd_weight: of the KD that it is added to.
    """

    input_gradient = True

    def __init__(
        self,
        teacher: Taps,
        student: Taps,
        weight: float = 20.0,
        of: str = "label",
        temperature: float = 4.0,
        kd_weight: float = 0.9,
    ) -> None:
        if of not in ("label", "teacher"):
            raise ValueError(f"of: expected 'label' or 'teacher', got {of!r}")
        super().__init__()
        self.weight, self.of = weight, of
        self.temperature, self.kd_weight = temperature, kd_weight

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        picked = labels if self.of == "label" else teacher.logits.detach().argmax(1)
        student_gradient = input_gradient(student, picked, create_graph=True)
        teacher_gradient = input_gradient(teacher, picked).detach()
        distance = functional.mse_loss(student_gradient, teacher_gradient)
        logits = teacher.logits.detach()
        terms = kd_terms(student, logits, labels, self.temperature, self.kd_weight)
        return terms | {"jacobian": self.weight * distance}


def input_gradient(reading: Reading, picked: Tensor, create_graph: bool = False) -> Tensor:
    """∂ logit[picked] / ∂ image of unit length per sample, (N, 3·H·W)."""
    logits = reading.logits.gather(1, picked[:, None]).sum()
    (gradient,) = torch.autograd.grad(logits, reading.images, create_graph=create_graph)
    return functional.normalize(gradient.flatten(1).float())
