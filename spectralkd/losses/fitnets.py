"""Romero et al., *FitNets: hints for thin deep nets*, arXiv 1412.6550."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Phase, Reading, Taps, cross_entropy
from spectralkd.losses.kd import kd_terms
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class FitNets(Method):
    """Mean squared error between a regressor of a middle student map and the teacher's.

    The original first trains the student up to the hint and then distills the logits; later
    comparisons (RepDistiller, mdistiller) train everything at once with weight 100, through a
    regressor with batch norm and ReLU. There is no official code. Of a network whose stages end in
    a sum without a ReLU, such as WideResNet, the map is negative in many places, where that
    regressor cannot follow it (the teacher's is compared raw, as in those two).

    Args:
        two_stages: train as the original does: ``hint_epochs`` on the hint alone, then KD.
        weight: of the hint beside the cross-entropy, where everything is trained at once.
        hint_epochs: the original stops by validation error after at most 500.
        stage: which network stage's output is the hint, counted from 0; the middle one.
        relu: whether the regressor, a 1×1 convolution and a batch norm, ends in a ReLU.
        temperature, kd_weight: of the KD that follows the hint; the original has T = 3 and lets
            the weight of the softened term fall from 4 to 1, which is not done here.

    Raises:
        ValueError: (when built) ``stage`` is not one of the networks'.
    """

    reads = "output"
    two_stages: bool = False
    weight: Annotated[float, Range(0)] = 100.0
    hint_epochs: Annotated[int, Range(0)] = 30
    stage: Annotated[int, Range(0)] = 1
    relu: bool = True
    temperature: Annotated[float, Range(0, ends="(]")] = 3.0
    kd_weight: Annotated[float, Range(0)] = 0.9

    @property
    def phases(self) -> tuple[Phase, ...]:
        hint = (Phase("hint", epochs=self.hint_epochs),) if self.two_stages else ()
        return (*hint, Phase("train"))

    def build(self, teacher: Taps, student: Taps) -> None:
        if not self.stage < len(teacher.shapes):
            raise ValueError(f"stage: expected 0 to {len(teacher.shapes) - 1}, got {self.stage}")
        self.regressor = nn.Sequential(
            nn.Conv2d(student.shapes[self.stage][0], teacher.shapes[self.stage][0], 1),
            nn.BatchNorm2d(teacher.shapes[self.stage][0]),
            nn.ReLU() if self.relu else nn.Identity(),
        )

    def trainable_parameters(self, phase: str) -> Iterable[nn.Parameter]:
        hint_is_over = self.two_stages and phase == "train"
        return () if hint_is_over else self.parameters()

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        if self.two_stages and phase == "train":
            return kd_terms(teacher, student, labels, self.temperature, self.kd_weight)
        hint = at_least_float32(self.regressor(student.maps[self.stage]))
        error = functional.mse_loss(hint, at_least_float32(teacher.maps[self.stage]))
        if phase == "hint":
            return {"hint": error}
        return {"ce": cross_entropy(student, labels), "hint": self.weight * error}
