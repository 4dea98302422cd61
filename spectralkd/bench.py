"""Measurements of speed on the user's own machine, as ratios to a named floor in one run.

The floor of every spectrum is one ``torch.fft.rfft2`` over the whole batch, its result thrown
away. Contestants run in turn, round after round, and each round's ratio is taken within the
round, so a machine whose speed drifts drifts for all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

from spectralkd.spectrum import RadialPowerSpectrum, radial_power, ring_correlation

SHAPES = ((10_000, 3, 32, 32), (512, 256, 8, 8), (64, 3, 224, 224))


@dataclass(frozen=True)
class Timing:
    """One contestant on one shape.

    Attributes:
        what: the call that was timed.
        shape: of its input.
        seconds: median over the rounds.
        ratio: median over the rounds of seconds over the floor's seconds.
    """

    what: str
    shape: tuple[int, ...]
    seconds: float
    ratio: float


def bench_spectra(device: str = "cpu", rounds: int = 7) -> list[Timing]:
    """Time spectra against the Fourier transform they rest on."""

    def dataset_spectrum(x: Tensor) -> None:
        RadialPowerSpectrum().to(x.device).update(x)

    contestants: dict[str, Callable[[Tensor], object]] = {
        "torch.fft.rfft2": lambda x: torch.fft.rfft2(x, norm="ortho"),
        "RadialPowerSpectrum.update": dataset_spectrum,
        "radial_power": radial_power,
        "ring_correlation (two maps)": lambda x: ring_correlation(x, x),
    }
    timings = []
    for shape in tqdm(SHAPES, desc="bench", leave=False):
        x = torch.randn(shape, device=device)
        seconds = _interleaved(
            {n: partial(call, x) for n, call in contestants.items()}, device, rounds
        )
        floor = seconds["torch.fft.rfft2"]
        timings += [
            Timing(
                name,
                shape,
                statistics.median(taken),
                statistics.median(t / f for t, f in zip(taken, floor, strict=True)),
            )
            for name, taken in seconds.items()
        ]
    return timings


def _interleaved(
    calls: dict[str, Callable[[], object]], device: str, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
