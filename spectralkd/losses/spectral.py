"""Rotman & Wolf, *Natural statistics of network activations and implications for KD*, Eq. 10.

The functions below say what L_L1 and L_CPS are, in plain autograd; ``Spectral`` computes both by
``spectral_fused``, which is tested to be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from spectralkd.checks import Range
from spectralkd.losses.base import (
    Reading,
    Taps,
    check_least,
    cross_entropy,
    stage_weights,
    weighted_sum,
)
from spectralkd.losses.overhaul import Overhaul, partial_l2
from spectralkd.losses.spectral_fused import fused_terms
from spectralkd.spectra.rings import Rings, at_least_float32

StageWeights = Literal["overhaul", "equal"]


@dataclass(eq=False, repr=False)
class Spectral(Overhaul):
    """L = L_CE + α L_overhaul + β L_L1 + γ L_CPS (Eq. 10).

    R_T and R_S are Overhaul's reduced maps, R̃ their orthonormal Fourier transforms:

    - L_L1 = Σ |R̃_T - R̃_S|, the modulus of the complex difference, over every frequency;
    - L_CPS = mean of 1 - P^TS / sqrt(P^TT P^SS) over channels and rings of equal |k| (Eq. 8),
      one minus the Fourier ring correlation, with P^XY = Re⟨R̃^X conj R̃^Y⟩ over a ring (Eq. 9).

    A weight of 0 switches its term off. What the paper leaves open is an argument:

    Args:
        alpha: of L_overhaul; the paper's 1e-4 is a tenth of the Overhaul authors' own.
        beta, gamma: of L_L1 and L_CPS; on CIFAR-100 the paper has 1e-4 and 1e-2.
        l1_reduction: over the elements of a stage. The paper gives none. ``"sum"``, divided by
            the batch size, is Overhaul's: both are then sums over the same elements.
        cps_reduction: over images and rings; Eq. 8 averages over channels and leaves the rest
            open. With ``"mean"``, L_CPS lies in [0, 2] and γ = 1e-2 gives it 0.4 % of Overhaul's
            gradient at α = 1e-4 (0.04 % at 1e-3; WRN-16-2 → WRN-16-1 after training);
            ``"sum"`` is larger by the batch size times the rings.
        l1_stages, cps_stages: the paper's indices i, j run over stages without weights.
            ``"overhaul"`` halves the weight with each stage from the last; ``"equal"`` sums.
        cps_rings: Eq. 8 averages over k without saying which. ``"complete"`` leaves out DC,
            whose single real mode always correlates ±1, the ring cut by the Nyquist frequency
            and the corners of the plane; ``"all"`` leaves out DC alone.
        teacher_map: T_T is only called "learnable"; Overhaul's is the ``"margin"`` ReLU. With
            ``"identity"`` the two spectral terms see the teacher's whole map.
        eps: least ring power in the denominator of Eq. 8, relative to the mean over the
            channels of the same image: it bounds the gradient of a channel that is nearly dead.

    Raises:
        ValueError: an unknown choice, or (when built) maps below 4×4 pixels.
    """

    of_recipe = ("alpha", "beta", "gamma")
    alpha: Annotated[float, Range(0)] = 1e-4
    beta: Annotated[float, Range(0)] = 1e-4
    gamma: Annotated[float, Range(0)] = 1e-2
    l1_reduction: Literal["sum", "mean"] = "sum"
    cps_reduction: Literal["mean", "sum"] = "mean"
    l1_stages: StageWeights = "overhaul"
    cps_stages: StageWeights = "equal"
    cps_rings: Literal["complete", "all"] = "complete"
    teacher_map: Literal["margin", "identity"] = "margin"
    eps: Annotated[float, Range(0)] = 1e-2

    def build(self, teacher: Taps, student: Taps) -> None:
        check_least(teacher, 4)
        super().build(teacher, student)
        complete = self.cps_rings == "complete"
        like = at_least_float32(teacher.margins[0])
        self.rings = nn.ModuleList(
            Rings(*size, complete=complete).to(like) for _, *size in teacher.shapes
        )

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        distances, l1, cps = [], [], []
        for stage in range(len(self.connectors)):
            t, s = self.reduced(stage, teacher, student)
            if self.alpha:
                distances.append(partial_l2(t, s) / len(labels))
            if self.beta or self.gamma:
                if self.teacher_map == "identity":
                    t = at_least_float32(teacher.maps[stage])
                distance, dissimilarity = self.stage_terms(stage, t, s)
                l1.append(distance)
                cps.append(dissimilarity)
        terms = {
            "overhaul": (self.alpha, "overhaul", distances),
            "l1": (self.beta, self.l1_stages, l1),
            "cps": (self.gamma, self.cps_stages, cps),
        }
        count = len(self.connectors)
        weights = {"overhaul": stage_weights(count), "equal": [1.0] * count}
        return {"ce": cross_entropy(student, labels)} | {
            name: weight * weighted_sum(weights[stages], parts)
            for name, (weight, stages, parts) in terms.items()
            if weight
        }

    def stage_terms(self, stage: int, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
        """L_L1 (per image) and L_CPS of one stage's reduced maps, (N, M, H, W) each."""
        # The fused backward pass has no gradient for the teacher.
        compute = plain_terms if teacher.requires_grad else fused_terms
        rings: Any = self.rings[stage]
        with torch.autocast(student.device.type, enabled=False):
            l1, cps = compute(teacher, student, rings, self.eps)
        elements = student[0].numel() if self.l1_reduction == "mean" else 1
        terms = len(student) * (rings.count - 1) if self.cps_reduction == "sum" else 1
        return l1 / (len(student) * elements), cps * terms


def plain_terms(
    teacher: Tensor, student: Tensor, rings: Rings, eps: float
) -> tuple[Tensor, Tensor]:
    """L_L1 and L_CPS of maps (N, M, H, W): what ``fused_terms`` computes."""
    ft, fs = (
        rings.transform(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        for maps in (teacher, student)
    )
    return spectral_l1(ft, fs, rings), cross_power_dissimilarity(ft, fs, rings, eps)


def spectral_l1(teacher: Tensor, student: Tensor, rings: Rings) -> Tensor:
    """Σ |R̃_T - R̃_S| over maps and the whole plane of frequencies.

    Args:
        teacher, student: (..., K), as ``Rings.transform`` gives them.
    """
    difference = (teacher - student).unflatten(-1, (-1, 2))
    # A modulus of 0 has no gradient; this floor is far below the resolution of the squares.
    moduli = difference.square().sum(-1).clamp_min(1e-14).sqrt()
    return (moduli * rings.multiplicity[::2]).sum() / (rings.height * rings.width) ** 0.5


def cross_power_dissimilarity(
    teacher: Tensor, student: Tensor, rings: Rings, eps: float = 1e-2
) -> Tensor:
    """Mean over maps and rings but DC of 1 - P^TS / sqrt(P^TT P^SS) (Eqs. 8, 9); in [0, 2].

    Args:
        teacher, student: (N, M, K), M channels of N images, as ``Rings.transform`` gives them.
        eps: least ring power, relative to the mean over the image's channels.
    """
    ptt, pss, pts = (
        rings.mean((x * y).flatten(0, 1)).unflatten(0, x.shape[:2])
        for x, y in ((teacher, teacher), (student, student), (teacher, student))
    )
    # Two roots: the product of two powers overflows long before each of them does.
    correlation = pts * floored(ptt, eps).rsqrt() * floored(pss, eps).rsqrt()
    return 1 - correlation[..., 1:].mean()


def floored(power: Tensor, eps: float) -> Tensor:
    """Ring powers (N, M, R), at least ``eps`` times their mean over channels."""
    least = (eps * power.detach().mean(1, keepdim=True)).clamp_min(1e-20)
    return torch.maximum(power, least)
