"""What each loss of maps sees of a distorted map, and at which frequencies.

Every loss here is the distance inside its method, of maps with equal channels and without the
method's connectors: how it judges two maps, not what a student learns with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from spectralkd.analysis.distances import perturb, scrambled_rings, white_noise
from spectralkd.losses.at import attention
from spectralkd.losses.base import weighted_sum
from spectralkd.losses.fft_align import plane_error
from spectralkd.losses.focal import focal_error
from spectralkd.losses.spectral import Spectral, plain_terms
from spectralkd.losses.ufd import UFD, decoupled_errors
from spectralkd.losses.wavelet import high_band_error
from spectralkd.spectra.power import radial_power
from spectralkd.spectra.rings import cached_rings

Loss = Callable[[Tensor, Tensor], Tensor]


def at(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared error of attention maps."""
    return (attention(student) - attention(teacher)).square().mean()


def ufd(teacher: Tensor, student: Tensor) -> Tensor:
    """UFD's four distances with its default weights."""
    t, s = teacher.flatten(2), student.flatten(2)
    spatial = decoupled_errors(t, s, constant_over=2, unit_over=1)
    channel = decoupled_errors(t, s, constant_over=1, unit_over=2)
    weights = [UFD.spatial_dc, UFD.spatial_ac, UFD.channel_dc, UFD.channel_ac]
    return weighted_sum(weights, [*spatial, *channel])


def spectral_terms(teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """L_L1 of Eq. 10 over the number of elements, and L_CPS of Eq. 8."""
    height, width = teacher.shape[-2:]
    rings = cached_rings(height, width, teacher.dtype, teacher.device)
    l1, cps = plain_terms(teacher, student, rings, Spectral.eps)
    return l1 / teacher.numel(), cps


LOSSES: dict[str, Loss] = {
    "L2": functional.mse_loss,
    "at": at,
    "fft_align": plane_error,
    "focal": focal_error,
    "wavelet": high_band_error,
    "ufd": ufd,
    "L_L1": lambda teacher, student: spectral_terms(teacher, student)[0],
    "L_CPS": lambda teacher, student: spectral_terms(teacher, student)[1],
}


def distortions(teacher: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """Students that are the teacher's maps (N, C, H, W), distorted; by name.

    The phases of |k| below and above 1/8 cycles/pixel are random in two of them, with all power
    kept; the last has shuffled channels.
    """
    mean = teacher.mean((-2, -1), keepdim=True)
    order = torch.randperm(teacher.shape[1], generator=torch.Generator().manual_seed(seed))
    return {
        "each map's mean": mean.expand_as(teacher),
        "without its mean": teacher - mean,
        "twice the map": 2 * teacher,
        "shift by 1 pixel": perturb(teacher, shift=1, seed=seed),
        "blur, σ = 1 pixel": perturb(teacher, blur=1.0, seed=seed),
        "noise, half the deviation": perturb(teacher, noise=0.5, seed=seed),
        "low phases random": perturb(teacher, scramble=(1e-6, 1 / 8), seed=seed),
        "high phases random": perturb(teacher, scramble=(1 / 8, 1.0), seed=seed),
        "channels shuffled": teacher[:, order],
    }


def blind_spots(
    teacher: Tensor, students: Mapping[str, Tensor], losses: Mapping[str, Loss] | None = None
) -> dict[str, dict[str, float]]:
    """Each loss of each student, divided by that of white noise with the teacher's deviations.

    Args:
        teacher: (N, C, H, W), H and W at least 4.
        students: of the same shape, by name.
        losses: by name; default: ``LOSSES``.

    Returns:
        By loss and student: 0 is not seen at all, 1 as bad as noise.
    """
    noise = white_noise(teacher)
    return {
        name: {
            label: float(loss(teacher, student)) / float(loss(teacher, noise))
            for label, student in students.items()
        }
        for name, loss in (losses or LOSSES).items()
    }


def ring_weights(teacher: Tensor, losses: Mapping[str, Loss] | None = None) -> dict[str, Tensor]:
    """How much each loss sees of one ring whose phases are random, by loss.

    Args:
        teacher, losses: as ``blind_spots``.

    Returns:
        (R - 1,) at ``ring_frequencies(H, W)[1:]``, summing to 1.
    """
    students = {str(n): maps for n, maps in enumerate(scrambled_rings(teacher), start=1)}
    found = blind_spots(teacher, students, losses)
    curves = {name: torch.tensor(list(row.values())) for name, row in found.items()}
    return {name: curve / curve.sum() for name, curve in curves.items()}


def gradient_spectra(
    teacher: Tensor, student: Tensor, losses: Mapping[str, Loss] | None = None
) -> dict[str, Tensor]:
    """Power spectrum of each loss's gradient by the student's maps: what the loss teaches first.

    Args:
        teacher, losses: as ``blind_spots``.
        student: (N, C, H, W).

    Returns:
        (R - 1,) ring means at ``ring_frequencies(H, W)[1:]`` by loss, with mean 1.
    """
    spectra = {}
    for name, loss in (losses or LOSSES).items():
        maps = student.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(teacher, maps), maps)
        power = radial_power(gradient).mean((0, 1))[1:]
        spectra[name] = power / power.mean()
    return spectra
