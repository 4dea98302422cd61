"""L_L1 and L_CPS from one transform of each map, with a backward pass of their own.

Autograd would go back through every product of the forward pass. In the plane of frequencies the
gradient of both terms with respect to the student's modes S is, with D = S - T and C the ring
correlation,

    D / |D|   and   (S C / P^SS - T / sqrt(P^TT P^SS)) / modes of the ring,

so a single inverse transform brings it back to the maps. Maps go through in pieces of several
images that stay in the processor's cache. Complex numbers are pairs of reals: no complex kernels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spectralkd.spectra.rings import Rings, chunks


def fused_terms(
    teacher: Tensor, student: Tensor, rings: Rings, eps: float
) -> tuple[Tensor, Tensor]:
    """``spectral.spectral_l1`` and ``spectral.cross_power_dissimilarity`` of maps.

    Args:
        teacher: (N, M, H, W) float32 or float64; it gets no gradient.
        student: (N, M, H, W), differentiable once.
        rings: of the maps' size and precision.
        eps: least ring power, relative to the mean over the image's channels.

    Returns:
        Two scalars: the sum over maps and modes, and the mean over maps and rings.
    """
    l1, cps = _Terms.apply(teacher, student, rings, eps)
    return l1, cps


class _Piece(NamedTuple):
    """What the backward pass needs of n images with M channels: modes (n·M, K) of both networks
    and, for each map and ring (n·M, R), factors of the gradient by the student's modes."""

    teacher: Tensor
    student: Tensor
    of_teacher: Tensor
    of_student: Tensor


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, teacher: Tensor, student: Tensor, rings: Rings, eps: float
    ) -> tuple[Tensor, Tensor]:
        pieces, distances, correlations = [], [], []
        channels = student.shape[1]
        for t, s in zip(chunks(teacher), chunks(student), strict=True):
            ft, fs = (rings.transform(maps.contiguous().flatten(0, 1)) for maps in (t, s))
            product = ft * ft
            ptt = rings.mean(product)
            pss = rings.mean(torch.mul(fs, fs, out=product))
            pts = rings.mean(torch.mul(ft, fs, out=product))
            root_t, _ = _inverse_root(ptt, channels, eps)
            root_s, alive = _inverse_root(pss, channels, eps)
            of_teacher = root_t * root_s
            correlation = pts * of_teacher
            of_student = correlation * root_s.square() * alive
            for factor in (of_teacher, of_student):
                factor[:, 0].zero_()  # DC does not count
            distances.append(_moduli_sum(torch.sub(fs, ft, out=product), rings))
            correlations.append(correlation[:, 1:].sum())
            pieces.append(_Piece(ft, fs, of_teacher, of_student))
        # The maps themselves are not needed any more.
        ctx.save_for_backward(*(tensor for piece in pieces for tensor in piece))
        ctx.shape, ctx.stride, ctx.rings = student.shape, student.stride(), rings
        ctx.count = student.shape[0] * channels * (rings.count - 1)
        return torch.stack(distances).sum(), 1 - torch.stack(correlations).sum() / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_l1: Tensor, by_cps: Tensor) -> tuple[None, Tensor | None, None, None]:
        if not ctx.needs_input_grad[1]:
            return None, None, None, None
        # A compiled backward pass is traced under the forward's autocast.
        with torch.autocast(by_l1.device.type, enabled=False):
            return None, _gradient(ctx, by_l1, by_cps), None, None


def _gradient(ctx: Any, by_l1: Tensor, by_cps: Tensor) -> Tensor:
    """Gradient of both terms by the student's maps, piece by piece.

    Args:
        ctx: as ``_Terms.forward`` left it.
        by_l1, by_cps: gradients by the two terms.
    """
    saved, size, rings = ctx.saved_tensors, len(_Piece._fields), ctx.rings
    by_modulus = by_l1 / (rings.height * rings.width) ** 0.5
    by_correlation = -by_cps / ctx.count
    gradient = torch.empty_strided(
        ctx.shape, ctx.stride, dtype=saved[0].dtype, device=saved[0].device
    )
    for number, part in enumerate(chunks(gradient)):
        piece = _Piece(*saved[size * number : size * (number + 1)])
        modes = piece.student - piece.teacher
        factor = _square_moduli(modes).rsqrt_() * by_modulus
        modes.view(len(modes), -1, 2).mul_(factor[..., None])
        modes.addcmul_(piece.teacher, rings.spread(piece.of_teacher * by_correlation))
        modes.addcmul_(piece.student, rings.spread(piece.of_student * -by_correlation))
        part.copy_(rings.adjoint(modes).view(part.shape))
    return gradient


def _inverse_root(power: Tensor, channels: int, eps: float) -> tuple[Tensor, Tensor]:
    """1/sqrt of floored ring powers (n·M, R), and where they are above the floor."""
    mean = power.unflatten(0, (-1, channels)).mean(1)
    least = (eps * mean).clamp_min_(1e-20).repeat_interleave(channels, 0)
    return torch.maximum(power, least).rsqrt_(), power > least


def _square_moduli(modes: Tensor) -> Tensor:
    """|F|² of transforms (N, K) → (N, K/2); the floor keeps 1/|F| finite."""
    square = modes.square()
    return (square[:, ::2] + square[:, 1::2]).clamp_min(1e-14)


def _moduli_sum(modes: Tensor, rings: Rings) -> Tensor:
    """Σ |F| over maps and the whole plane, of the orthonormal transform."""
    moduli = _square_moduli(modes).sqrt()
    return (moduli @ rings.multiplicity[::2]).sum() / (rings.height * rings.width) ** 0.5
