"""Whether two outputs of a cell say the same.

=================  ==========================================================
counts, words      equal
printed numbers    within 1.5 units of the last digit that is printed
curves, pictures   each value within 0.2 %, or a millionth of the largest one
records            texts exactly, numbers to a billionth: what is fitted to records
                   differs in the last digits from machine to machine
=================  ==========================================================
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any

import numpy as np

RELATIVE = 2e-3
NUMBER = re.compile(r"[-−+]?(?<![\w.])\d+(?:\.(\d+))?(?:e([-+]?\d+))?")
IGNORED = ("uid", "template", "config")


def difference(stored: Any, fresh: Any, where: str = "output", *, exact: bool = False) -> str:
    """The first place where two outputs say different things, or nothing."""
    stored, fresh = decode(stored), decode(fresh)
    if isinstance(stored, dict) and isinstance(fresh, dict):
        keys = [{key for key in output if key not in IGNORED} for output in (stored, fresh)]
        if keys[0] != keys[1]:
            return f"{where}: stored {sorted(keys[0])}, now {sorted(keys[1])}"
        parts = (
            difference(stored[key], fresh[key], f"{where}.{key}", exact=exact)
            for key in sorted(keys[0])
        )
        return next(filter(None, parts), "")
    if isinstance(stored, list) and isinstance(fresh, list) and len(stored) == len(fresh):
        pairs = enumerate(zip(stored, fresh, strict=True))
        parts = (difference(a, b, f"{where}[{n}]", exact=exact) for n, (a, b) in pairs)
        return next(filter(None, parts), "")
    same = equal(stored, fresh) if exact else close(stored, fresh)
    return "" if same else f"{where}:\nstored {stored}\nnow    {fresh}"


def equal(stored: Any, fresh: Any) -> bool:
    """Whether two texts, arrays or numbers are the same, but for the last digits of numbers."""
    if isinstance(stored, np.ndarray) and isinstance(fresh, np.ndarray):
        same = stored.shape == fresh.shape and stored.dtype.kind == fresh.dtype.kind
        return same and bool(np.allclose(fresh, stored, rtol=1e-9, atol=1e-12, equal_nan=True))
    if isinstance(stored, float) and isinstance(fresh, float):
        return math.isclose(stored, fresh, rel_tol=1e-9, abs_tol=1e-12)
    return bool(stored == fresh)


def close(stored: Any, fresh: Any) -> bool:
    """Whether two texts, arrays or numbers agree within rounding."""
    if isinstance(stored, str) and isinstance(fresh, str):
        return NUMBER.sub("#", stored) == NUMBER.sub("#", fresh) and all(
            near(a, b) for a, b in zip(NUMBER.finditer(stored), NUMBER.finditer(fresh), strict=True)
        )
    if isinstance(stored, np.ndarray) and isinstance(fresh, np.ndarray):
        if stored.shape != fresh.shape or stored.dtype.kind != fresh.dtype.kind:
            return False
        floor = 1e-6 * float(np.nanmax(np.abs(stored), initial=0))
        return bool(np.allclose(fresh, stored, rtol=RELATIVE, atol=floor, equal_nan=True))
    if isinstance(stored, float) and isinstance(fresh, (int, float)):
        return math.isclose(stored, fresh, rel_tol=RELATIVE, abs_tol=1e-9)
    return bool(stored == fresh)


def near(stored: re.Match[str], fresh: re.Match[str]) -> bool:
    """Whether two printed numbers differ at most in their last digit."""
    a, b = (float(match[0].replace("−", "-")) for match in (stored, fresh))
    digits, power = stored[1], stored[2]
    if digits is None and power is None:
        return a == b  # a count
    unit = float(f"1e{int(power or 0) - len(digits or '')}")
    if math.inf in (abs(a), abs(b), unit):  # an encoded picture has what only looks like a number
        return stored[0] == fresh[0]
    return abs(a - b) <= 1.5 * unit


def decode(value: Any) -> Any:
    """plotly's encoded array as numbers."""
    if isinstance(value, dict) and "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
        return array.reshape([int(n) for n in str(value.get("shape", array.size)).split(",")])
    return value
