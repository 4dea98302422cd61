"""What several seeds say: means with their intervals, and differences between two arms."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and its 95 % interval by Student's t; infinite for one value.

    Attributes:
        mean, low, high: in the unit of the values.
        n: number of values.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.mean:.2f} (1 seed)"
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}] ({self.n} seeds)"


def interval(values: Sequence[float]) -> Interval:
    """Mean of values with its interval.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("values: expected at least one, got none")
    mean, count = statistics.fmean(values), len(values)
    half = math.inf
    if count > 1:
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
        half = quantile * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Interval:
    """Mean of a - b over the seeds that both have.

    Pairs share the order of images and their augmentation; what varies alike with it cancels.

    Args:
        a, b: values by seed.

    Raises:
        ValueError: no seed in common.
    """
    common = sorted(set(a) & set(b))
    if not common:
        raise ValueError(f"seeds: expected some in common, got {sorted(a)} and {sorted(b)}")
    return interval([a[seed] - b[seed] for seed in common])
