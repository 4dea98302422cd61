"""Are arms compared as a statistician would, and is Table 2 counted right?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from spectralkd.analysis.intervals import interval, paired_difference
from spectralkd.figures.seeds import differences_figure
from spectralkd.reproduction.comparison import (
    comparison_table,
    last_values,
    recount,
    recount_table,
)


def test_the_interval_is_students_t() -> None:
    values = [3.0, 4.5, 2.0, 5.0, 3.3]
    found = interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert found == pytest.approx((np.mean(values), low, high, 5))
    assert str(interval([2.0])) == "2.00 (1 seed)"
    assert interval([2.0]).high == math.inf
    with pytest.raises(ValueError, match="values: expected at least one"):
        interval([])


def test_pairs_cancel_what_seeds_share() -> None:
    shared = np.random.default_rng(0).normal(30, 5, 8)
    a = {seed: float(x) + 0.3 + 0.01 * seed for seed, x in enumerate(shared)}
    b = {seed: float(x) for seed, x in enumerate(shared)}
    difference = paired_difference(a, b | {99: 1000.0})
    assert difference.mean == pytest.approx(0.335)
    assert difference.high - difference.low < 0.05
    assert difference.n == 8
    with pytest.raises(ValueError, match="seeds: expected some in common"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_the_figure_shows_each_arm_against_the_reference() -> None:
    arms = {
        "overhaul": {0: 40.0, 1: 42.0, 2: 41.0},
        "better": {0: 39.0, 1: 41.5, 7: 0.0},
        "worse": {2: 44.0},
        "elsewhere": {9: 1.0},
    }
    seeds, means = differences_figure(arms, "overhaul").data
    assert list(zip(seeds.y, seeds.x, strict=True)) == [
        ("worse", 3.0),
        ("better", -1.0),
        ("better", -0.5),
    ]
    assert list(zip(means.y, means.x, strict=True)) == [("better", -0.75)]  # of several seeds
    low, high = stats.t.interval(0.95, 1, -0.75, stats.sem([-1.0, -0.5]))
    assert means.error_x.array == pytest.approx([(high - low) / 2])
    with pytest.raises(ValueError, match="reference: expected one of .*got 'kd'"):
        differences_figure(arms, "kd")
    with pytest.raises(ValueError, match="arms: expected one with a seed of a's, .0., got"):
        differences_figure({"a": {0: 1.0}, "b": {1: 1.0}}, "a")


def record(row: str, seed: int, error: float, **changes: Any) -> dict[str, Any]:
    recipe = {"teacher_model": "t", "student_model": "s", "holdout": 0, "seed": seed}
    recipe |= {"preset": "heo"} | changes
    lines = [{"top1_error": 99.0}, {"top1_error": error}]
    return {"row": row, "config": {"recipe": recipe}, "metrics": lines, "agreement": {}}


def test_the_table_takes_last_errors_on_validation_images() -> None:
    records = {
        "a": record("overhaul", 0, 40.0),
        "b": record("overhaul", 1, 42.0),
        "c": record("spectral", 0, 39.0),
        "d": record("spectral", 1, 41.0),
        "e": record("spectral", 2, 90.0, holdout=5000),
        "f": record("kd", 5, 45.0),
        "z": record("overhaul", 0, 50.0, preset="paper"),
        "g": {"row": "teacher", "config": {"recipe": None}},
    }
    assert last_values(records)["t", "s"]["spectral"] == {0: 39.0, 1: 41.0}
    lines = comparison_table(records, style="markdown").splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["spectral", "overhaul", "kd"]
    assert "-1.00 [-1.00, -1.00] (2 seeds)" in lines[0]
    assert lines[2].rstrip(" |").endswith("–")  # no seed in common


def test_table_2_is_recounted() -> None:
    """By hand: 20.37 - 20.72 = -0.35 for setup a, 24.42 - 24.08 = +0.34 for c by the code."""
    ours, theirs = recount().values()
    assert ours == (-0.35, -0.70, 0.15, -0.24, -0.04, -0.40)
    assert theirs == (-0.52, -0.53, 0.34, 0.43, 0.19, -0.22)
    text = recount_table()
    assert "5 of 6" in text
    assert "3 of 6" in text
