"""Romero et al., *FitNets: hints for thin deep nets*, arXiv 1412.6550."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.losses.kd import kd_terms
from spectralkd.losses.method import Method, Phase, Reading, Taps, check_sizes, cross_entropy


class FitNets(Method):
    """Mean squared error between a regressor of a middle student map and the teacher's.

    The original trains up to the hint first and then distils the logits; later comparisons
    (RepDistiller, mdistiller) train all at once with weight 100, through a regressor with batch
    norm and ReLU. There is no official code.

    Args:
        two_stages: the original's way: ``hint_epochs`` on the hint alone, then KD.
        weight: of the hint beside the cross-entropy, where all is trained at once.
        hint_epochs: the original stops by validation error after at most 500.
        stage: whose output is the hint, counted from 0; the middle one.
        relu: whether the regressor, a 1×1 convolution and a batch norm, ends in a ReLU.
        temperature, kd_weight: of the second stage; the original has T = 3 and lets the weight
            of the softened term fall from 4 to 1, which is not done here.
    """

    reads = "output"

    def __init__(
        self,
        teacher: Taps,
        student: Taps,
        two_stages: bool = False,
        weight: float = 100.0,
        hint_epochs: int = 30,
        stage: int = 1,
        relu: bool = True,
        temperature: float = 3.0,
        kd_weight: float = 0.9,
    ) -> None:
        check_sizes(teacher, student)
        if not 0 <= stage < len(teacher.shapes):
            raise ValueError(f"stage: expected 0 to {len(teacher.shapes) - 1}, got {stage}")
        super().__init__()
        self.weight, self.stage, self.two_stages = weight, stage, two_stages
        self.temperature, self.kd_weight = temperature, kd_weight
        self.regressor = nn.Sequential(
            nn.Conv2d(student.shapes[stage][0], teacher.shapes[stage][0], 1),
            nn.BatchNorm2d(teacher.shapes[stage][0]),
            nn.ReLU() if relu else nn.Identity(),
        )
        if two_stages:
            self.phases = (Phase("hint", epochs=hint_epochs), Phase("train"))

    def trained(self, phase: str) -> Iterable[nn.Parameter]:
        hint_is_over = self.two_stages and phase == "train"
        return () if hint_is_over else self.parameters()

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        if self.two_stages and phase == "train":
            return kd_terms(student, teacher.logits, labels, self.temperature, self.kd_weight)
        hint = self.regressor(student.maps[self.stage]).float()
        error = functional.mse_loss(hint, teacher.maps[self.stage].float())
        if phase == "hint":
            return {"hint": error}
        return {"ce": cross_entropy(student, labels), "hint": self.weight * error}
