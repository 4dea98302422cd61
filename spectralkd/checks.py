"""Checks of arguments: every error names the argument, what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

import torch
from torch import Tensor


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise a ValueError unless ``value`` is one of a ``Literal``'s ``choices``."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


class Range(NamedTuple):
    """Finite numbers from ``low`` to ``high``; a bracket of ``ends`` includes its end."""

    low: float
    high: float = math.inf
    ends: str = "[]"

    def __contains__(self, value: Any) -> bool:
        above = value >= self.low if self.ends[0] == "[" else value > self.low
        below = value <= self.high if self.ends[1] == "]" else value < self.high
        return bool(math.isfinite(value) and above and below)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'of at least' if self.ends[0] == '[' else 'above'} {self.low}"
        return f"in {self.ends[0]}{self.low}, {self.high}{self.ends[1]}"


def check_ranges(options: object) -> None:
    """Raise a ValueError unless fields annotated with a ``Range`` hold a number in it.

    Those of type int hold whole numbers; those that may be None may be None.
    """
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        for allowed in getattr(hint, "__metadata__", ()):
            if isinstance(allowed, Range):
                kind, value = get_args(hint)[0], getattr(options, name)
                if not (value is None and NoneType in get_args(kind)):
                    _check_number(name, value, int in (kind, *get_args(kind)), allowed)


def _check_number(name: str, value: object, whole: bool, allowed: Range) -> None:
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not (number and value in allowed):
        what = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: expected {what} {allowed}, got {value!r}")


def check_size(height: int, width: int) -> None:
    """Raise a ValueError unless both sides have at least 4 pixels."""
    if min(height, width) < 4:
        raise ValueError(f"expected height and width of at least 4 pixels, got {height}×{width}")


def check_maps(name: str, x: Tensor) -> None:
    """Raise unless ``x`` is a dense floating-point tensor (..., H, W), H and W at least 4."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: expected a real floating-point tensor, got {got}")
    if x.layout != torch.strided or x.is_meta:
        what = "one without values" if x.is_meta else x.layout
        raise TypeError(f"{name}: expected a dense tensor, got {what}")
    if x.ndim < 2:
        raise ValueError(f"{name}: expected (..., H, W), got shape {tuple(x.shape)}")
    if min(x.shape[-2:]) < 4:
        raise ValueError(
            f"{name}: expected maps of at least 4×4 pixels, got {x.shape[-2]}×{x.shape[-1]}"
        )
    if x.numel() == 0:
        raise ValueError(f"{name}: expected at least one map, got shape {tuple(x.shape)}")


def check_finite(name: str, x: Tensor, result: Tensor) -> None:
    """Refuse ``x`` where it, or what was computed from it, is not finite.

    A NaN anywhere makes every ring NaN, so checking the small result is enough.
    """
    if torch.isfinite(result.detach()).all():
        return
    bad = int((~torch.isfinite(x.detach())).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite values, got {bad} NaN or infinite of {x.numel()}"
        )
    largest = float(x.detach().abs().max())
    raise ValueError(
        f"{name}: expected values whose squares {result.dtype} can hold, got up to {largest:g}"
    )


def check_not_lost(name: str, x: Tensor, power: Tensor, *, centered: bool = False) -> None:
    """Refuse maps that are not zero but whose squares are too small to be held.

    Args:
        x: (N, ..., H, W).
        power: (N, R) of them.
        centered: whether the mean of each map was removed.
    """
    weak = power.detach().amax(-1) < torch.finfo(power.dtype).tiny
    if not weak.any():
        return
    left = x.detach()[weak.to(x.device)]
    if centered:
        left = left - left.mean((-2, -1), keepdim=True)
    if left.any():
        raise ValueError(
            f"{name}: expected values whose squares {power.dtype} can hold, got a map of up to "
            f"{float(left.abs().max()):g}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names nearest to ``name``, comma-separated; all of them where none is near."""
    names = list(known)
    return ", ".join(get_close_matches(name, names, 5, cutoff=0.4) or names)
