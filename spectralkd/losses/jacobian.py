"""Srinivas & Fleuret, *Knowledge transfer with Jacobian matching*, arXiv 1803.00443."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Reading
from spectralkd.losses.kd import kd_terms
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class Jacobian(Method):
    """KD + w times the squared difference of normalized input gradients.

    The gradient of one logit with respect to the image, of unit length per sample, is matched
    between the networks; the student is trained through it (double backward). There is no
    official code, and neither its weight nor its reduction in Heo et al.'s comparison is known;
    the public reimplementations take the mean over all elements with weight 20. As there, the
    gradient is that of the batch's sum: through the student's batch norms it also holds what an
    image does to the others' logits.

    Args:
        weight: w, for the mean over batch and image elements.
        of: which class's logit is differentiated: the ``"label"``'s, or the ``"teacher"``'s
            largest.
        temperature, kd_weight: of the KD terms.
    """

    needs_image_gradient = True
    weight: Annotated[float, Range(0)] = 20.0
    of: Literal["label", "teacher"] = "label"
    temperature: Annotated[float, Range(0, ends="(]")] = 4.0
    kd_weight: Annotated[float, Range(0)] = 0.9

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        classes = labels if self.of == "label" else teacher.logits.detach().argmax(1)
        teacher_gradient = input_gradient(teacher, classes).detach()
        student_gradient = input_gradient(student, classes, create_graph=True)
        distance = functional.mse_loss(student_gradient, teacher_gradient)
        terms = kd_terms(teacher, student, labels, self.temperature, self.kd_weight)
        return terms | {"jacobian": self.weight * distance}


def input_gradient(reading: Reading, classes: Tensor, create_graph: bool = False) -> Tensor:
    """∂ logit[class] / ∂ image of unit length per sample, (N, 3·H·W)."""
    logits = reading.logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(logits, reading.images, create_graph=create_graph)
    return functional.normalize(at_least_float32(gradient.flatten(1)))
