"""Rotman & Wolf, *Natural statistics of network activations and implications for KD*, Eq. 10."""

from __future__ import annotations

from itertools import repeat
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spectralkd.losses.method import Reading, Taps, cross_entropy, stage_weights
from spectralkd.losses.overhaul import Overhaul, over_stages, partial_l2
from spectralkd.spectrum import Rings, check_choice, chunks

Reduction = Literal["sum", "mean"]
StageWeights = Literal["overhaul", "equal"]
RingSet = Literal["complete", "all"]
Transform = Literal["margin", "identity"]


class Spectral(Overhaul):
    """L = L_CE + α L_overhaul + β L_L1 + γ L_CPS (Eq. 10).

    R_T and R_S are Overhaul's reduced maps, R̃ their Fourier transforms:

    - L_L1 = Σ |R̃_T - R̃_S|, the modulus of the complex difference, over every frequency;
    - L_CPS = mean of 1 - P^TS / sqrt(P^TT P^SS) over channels and rings of equal |k| (Eq. 8),
      one minus the Fourier ring correlation, with P^XY = Re⟨R̃^X conj R̃^Y⟩ over a ring (Eq. 9).

    All terms come from one transform of each map. A weight of 0 switches its term off.

    What the paper leaves open is an argument:

    Args:
        alpha: of L_overhaul; the paper's 1e-4 is a tenth of the Overhaul authors' own.
        beta, gamma: of L_L1 and L_CPS; on CIFAR-100 the paper has 1e-4 and 1e-2.
        l1_reduction: over the elements of a stage. The paper writes none. ``"sum"``, divided by
            the batch size, is Overhaul's, and makes α = β weigh terms of one kind.
        l1_stages, cps_stages: the paper's indices i, j run over stages without weights.
            ``"overhaul"`` halves the weight with each stage from the last; ``"equal"`` sums.
        cps_rings: Eq. 8 averages over k without saying which. ``"complete"`` leaves out DC,
            whose one real mode correlates ±1 by itself, the ring cut by the Nyquist frequency
            and the corners of the plane; ``"all"`` leaves out DC alone.
        teacher_map: T_T is only called "learnable"; Overhaul's is the ``"margin"`` ReLU. With
            ``"identity"`` the two spectral terms see the teacher's whole map.
        eps: least ring power in the denominator of Eq. 8, in squared units of the map: a dead
            channel has a finite gradient.

    The transform is orthonormal: the paper's N of Eq. 5 is open too, but rescaling it only
    rescales β.
    """

    def __init__(
        self,
        teacher: Taps,
        student: Taps,
        alpha: float = 1e-4,
        beta: float = 1e-4,
        gamma: float = 1e-2,
        l1_reduction: Reduction = "sum",
        l1_stages: StageWeights = "overhaul",
        cps_stages: StageWeights = "equal",
        cps_rings: RingSet = "complete",
        teacher_map: Transform = "margin",
        eps: float = 1e-6,
    ) -> None:
        check_choice("l1_reduction", l1_reduction, Reduction)
        check_choice("l1_stages", l1_stages, StageWeights)
        check_choice("cps_stages", cps_stages, StageWeights)
        check_choice("cps_rings", cps_rings, RingSet)
        check_choice("teacher_map", teacher_map, Transform)
        for number, (_, height, width) in enumerate(teacher.shapes, start=1):
            if min(height, width) < 4:
                raise ValueError(
                    f"teacher: expected maps of at least 4×4 pixels, got {height}×{width} at "
                    f"stage {number}; larger images have larger maps"
                )
        super().__init__(teacher, student, alpha)
        self.beta, self.gamma, self.eps = beta, gamma, eps
        self.l1_reduction, self.teacher_map = l1_reduction, teacher_map
        count = len(teacher.shapes)
        weights = {"overhaul": stage_weights(count), "equal": [1.0] * count}
        self.l1_weights, self.cps_weights = weights[l1_stages], weights[cps_stages]
        self.rings = nn.ModuleList(
            Rings(height, width, complete=cps_rings == "complete").float()
            for _, height, width in teacher.shapes
        )

    def forward(
        self, student: Reading, teacher: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        distances, l1, cps = [], [], []
        for stage in range(len(self.connectors)):
            s, t = self.reduced(stage, student, teacher)
            if self.alpha:
                distances.append(partial_l2(s, t))
            if self.beta or self.gamma:
                seen = teacher.maps[stage].float() if self.teacher_map == "identity" else t
                distance, dissimilarity = self.stage_terms(stage, s, seen)
                l1.append(distance)
                cps.append(dissimilarity)
        terms = {"ce": cross_entropy(student, labels)}
        if self.alpha:
            terms["overhaul"] = self.alpha * over_stages(distances) / len(labels)
        if self.beta:
            terms["l1"] = self.beta * torch.stack(l1).sum()
        if self.gamma:
            terms["cps"] = self.gamma * torch.stack(cps).sum()
        return terms

    def spectral_terms(self, pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """L_L1 and L_CPS of (student, teacher) maps, (N, M, H, W) each, over all stages."""
        stages = [self.stage_terms(stage, s, t) for stage, (s, t) in enumerate(pairs)]
        l1, cps = (torch.stack(terms).sum() for terms in zip(*stages, strict=True))
        return l1, cps

    def stage_terms(self, stage: int, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """A stage's part of L_L1 and of L_CPS."""
        rings = self.rings[stage]
        assert isinstance(rings, Rings)
        with torch.autocast(student.device.type, enabled=False):
            distance, dissimilarity = _BothTerms.apply(student, teacher, rings, self.eps)
        scale = student[0].numel() if self.l1_reduction == "mean" else 1
        l1 = self.l1_weights[stage] / (len(student) * scale) * distance
        return l1, self.cps_weights[stage] * dissimilarity


class _BothTerms(torch.autograd.Function):
    """``spectral_l1`` and ``cross_power_dissimilarity`` of maps, from one transform of each.

    Autograd would go back through every product of the forward pass. In the plane of frequencies
    the gradient of both terms by the student's modes S is, with D = S - T and C the correlation,

        D / |D|   and   (S C / P^SS - T / sqrt(P^TT P^SS)) / modes of the ring,

    so one inverse transform brings it back. Maps (N, M, H, W) go through in pieces that stay in
    cache, where it costs little that they may be laid out channels last. Complex numbers are pairs
    of reals: no half precision, and no complex kernels.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, rings: Rings, eps: float
    ) -> tuple[Tensor, Tensor]:
        saved, distances, correlations = [], [], []
        for s, t in zip(chunks(student), chunks(teacher), strict=True):
            fs, ft = (rings.transform(maps.contiguous().flatten(0, 1)) for maps in (s, t))
            product = fs * fs
            pss = rings.mean(product)
            ptt = rings.mean(torch.mul(ft, ft, out=product))
            pst = rings.mean(torch.mul(fs, ft, out=product))
            correlation = pst * (pss.clamp_min(eps) * ptt.clamp_min(eps)).rsqrt()
            distances.append(_modulus_sum(torch.sub(fs, ft, out=product), rings))
            correlations.append(correlation[:, 1:].sum())
            saved += [fs, ft, pss, ptt, correlation]
        # Not the maps: nothing else needs them any more.
        ctx.save_for_backward(*saved)
        ctx.layouts = [(maps.shape, maps.stride()) for maps in (student, teacher)]
        ctx.rings, ctx.eps = rings, eps
        ctx.count = student.shape[0] * student.shape[1] * (rings.count - 1)
        return torch.stack(distances).sum(), 1 - torch.stack(correlations).sum() / ctx.count

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, by_l1: Tensor, by_cps: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        saved = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        results = [
            torch.empty_strided(*layout, dtype=saved[0].dtype, device=saved[0].device)
            if w
            else None
            for layout, w in zip(ctx.layouts, wanted, strict=True)
        ]
        places = [chunks(result) if result is not None else repeat(None) for result in results]
        for number, (by_student, by_teacher) in enumerate(
            zip(*places, strict=False)
        ):  # one may repeat for ever
            fs, ft, pss, ptt, correlation = saved[5 * number : 5 * number + 5]
            sides = (by_student, fs, ft, pss, ptt), (by_teacher, ft, fs, ptt, pss)
            for place, own, other, power, other_power in sides:
                if place is not None:
                    modes = _gradient(
                        own,
                        other,
                        power,
                        other_power,
                        correlation,
                        ctx.rings,
                        ctx.eps,
                        by_l1,
                        by_cps / ctx.count,
                    )
                    place.copy_(ctx.rings.adjoint(modes).view(place.shape))
        return results[0], results[1], None, None


def _gradient(
    own: Tensor,
    other: Tensor,
    power: Tensor,
    other_power: Tensor,
    correlation: Tensor,
    rings: Rings,
    eps: float,
    by_l1: Tensor,
    by_cps: Tensor,
) -> Tensor:
    """Gradient of both terms by one side's modes in the whole plane, (N, K)."""
    modes = own - other
    scale = by_l1 / (rings.height * rings.width) ** 0.5
    modes.view(len(own), -1, 2).mul_((_square_moduli(modes).rsqrt_() * scale)[..., None])
    floored = power.clamp_min(eps)
    of_other = (floored * other_power.clamp_min(eps)).rsqrt_()
    of_own = correlation / floored * (power > eps)
    of_other[:, 0] = of_own[:, 0] = 0
    modes.addcmul_(other, rings.spread(of_other * -by_cps))
    return modes.addcmul_(own, rings.spread(of_own * by_cps))


def _square_moduli(modes: Tensor) -> Tensor:
    """|F|² of transforms (N, K) → (N, K/2), with a least value for the sake of the gradient."""
    square = modes.square()
    # Far below float32's resolution of the squares.
    return (square[:, ::2] + square[:, 1::2]).clamp_min(1e-14)


def _modulus_sum(modes: Tensor, rings: Rings) -> Tensor:
    """Σ |F| over maps and the whole plane, of the orthonormal transform."""
    moduli = _square_moduli(modes).sqrt()
    return (moduli @ rings.multiplicity[::2]).sum() / (rings.height * rings.width) ** 0.5


def spectral_l1(student: Tensor, teacher: Tensor, rings: Rings) -> Tensor:
    """Σ |R̃_T - R̃_S| over maps and the whole plane of frequencies.

    Args:
        student, teacher: (N, K), as ``Rings.transform`` gives them.
    """
    return _modulus_sum(teacher - student, rings)


def cross_power_dissimilarity(
    student: Tensor, teacher: Tensor, rings: Rings, eps: float = 1e-6
) -> Tensor:
    """Mean over maps and rings but DC of 1 - P^TS / sqrt(P^TT P^SS) (Eqs. 8, 9); in [0, 2].

    Args:
        student, teacher: (N, K), as ``Rings.transform`` gives them.
        eps: least ring power.
    """
    pss, ptt = (rings.mean(f * f).clamp_min(eps) for f in (student, teacher))
    correlation = rings.mean(student * teacher) * (pss * ptt).rsqrt()
    return 1 - correlation[:, 1:].mean()
