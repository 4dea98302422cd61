"""Compare each notebook's stored outputs with a fresh run: texts equal, numbers close.

nbval compares texts and plotly's encoded arrays exactly, and does not compare a cell
without stored outputs. Here, a number may differ by 2 in a thousand or by the rounding of its last
printed digit, and a notebook that was not run whole is refused.
"""

from __future__ import annotations

import base64
import math
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbval.plugin import IPyNbCell

RELATIVE = 2e-3
LARGEST = 1_000_000  # bytes
NUMBER = re.compile(r"[-−+]?(?<![\w.])\d+(?:\.(\d+))?(?:e[-+]?\d+)?")
IGNORED = ("uid", "template", "config")

# A figure as data alone; re-executing adds a picture, which is not compared.
os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"


class Close:
    """An output that equals another one close to it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Close) and not difference(self.value, other.value)


def difference(stored: Any, fresh: Any, where: str = "output") -> str:
    """The first place where two outputs say different things, or nothing."""
    stored, fresh = decode(stored), decode(fresh)
    if isinstance(stored, dict) and isinstance(fresh, dict):
        keys = [{key for key in output if key not in IGNORED} for output in (stored, fresh)]
        if keys[0] != keys[1]:
            return f"{where}: stored {sorted(keys[0])}, now {sorted(keys[1])}"
        parts = (difference(stored[key], fresh[key], f"{where}.{key}") for key in sorted(keys[0]))
        return next(filter(None, parts), "")
    if isinstance(stored, list) and isinstance(fresh, list) and len(stored) == len(fresh):
        pairs = enumerate(zip(stored, fresh, strict=True))
        parts = (difference(a, b, f"{where}[{number}]") for number, (a, b) in pairs)
        return next(filter(None, parts), "")
    return "" if close(stored, fresh) else f"{where}:\nstored {stored}\nnow    {fresh}"


def close(stored: Any, fresh: Any) -> bool:
    """Whether two texts, arrays or numbers agree within rounding."""
    if isinstance(stored, str) and isinstance(fresh, str):
        return NUMBER.sub("#", stored) == NUMBER.sub("#", fresh) and all(
            near(a, b) for a, b in zip(NUMBER.finditer(stored), NUMBER.finditer(fresh), strict=True)
        )
    if isinstance(stored, np.ndarray) and isinstance(fresh, np.ndarray):
        if stored.shape != fresh.shape or stored.dtype.kind != fresh.dtype.kind:
            return False
        floor = 1e-6 * float(np.abs(stored).max(initial=0))
        return bool(np.allclose(fresh, stored, rtol=RELATIVE, atol=floor, equal_nan=True))
    if isinstance(stored, float) and isinstance(fresh, (int, float)):
        return math.isclose(stored, fresh, rel_tol=RELATIVE, abs_tol=1e-9)
    return bool(stored == fresh)


def decode(value: Any) -> Any:
    """plotly's encoded array as numbers."""
    if isinstance(value, dict) and "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]))
        return array.reshape([int(n) for n in str(value.get("shape", array.size)).split(",")])
    return value


def near(stored: re.Match[str], fresh: re.Match[str]) -> bool:
    a, b = (float(match[0].replace("−", "-")) for match in (stored, fresh))
    if stored[1] is None and "e" not in stored[0]:
        return a == b  # a count
    digits = len(stored[1] or "")
    return abs(a - b) <= max(RELATIVE * abs(a), 1.5 * 10.0**-digits * (abs(a) < 10 or digits > 0))


def explain(cell: IPyNbCell, mime: str, stored: Close, fresh: Close) -> None:
    cell.comparison_traceback.append(difference(stored.value, fresh.value, mime))


# nbval has no public hook for its comparison, hence the pinned version.
_sanitize = IPyNbCell.sanitize
IPyNbCell.sanitize = lambda self, output: Close(_sanitize(self, output))
IPyNbCell.format_output_compare = explain


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """Refuse a notebook that stored nothing to compare, or widget state, or too much."""
    if file_path.suffix != ".ipynb":
        return
    notebook = nbformat.read(file_path, as_version=4)
    problems = [
        f"cell {number} was not run"
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
    if "widgets" in notebook.metadata:
        problems.append("it stores widget state")
    if file_path.stat().st_size > LARGEST:
        problems.append(f"it is over {LARGEST} bytes")
    if problems:
        raise pytest.UsageError(
            f"{file_path.name}: {'; '.join(problems)}. Run python notebooks/render.py"
        )
