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
    last_errors,
    maps_table,
    recount,
    recount_table,
    shares_table,
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
    assert last_errors(records)["t", "s"]["spectral"] == {0: 39.0, 1: 41.0}
    lines = comparison_table(records, style="markdown").splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["spectral", "overhaul", "kd"]
    assert "-1.00 [-1.00, -1.00] (2 seeds)" in lines[0]
    assert lines[2].rstrip(" |").endswith("–")  # no seed in common


def test_what_the_terms_did_is_averaged_over_seeds() -> None:
    stages = ("group1", "group2", "group3")
    records = {
        "t": {
            "row": "teacher",
            "config": {"recipe": {"teacher_model": "t", "preset": "heo", "holdout": 0}},
        }
    }
    records["t"]["metrics"] = [{"exponents": dict.fromkeys(stages, -9.0)}]
    for seed in (0, 1):
        made = record("spectral", seed, 40.0)
        norms = {"ce": 6.0, "overhaul": 3.0 + seed, "cps": 1.0 - seed}
        gradients = {name: {"group1": norm, "group2": 0.0} for name, norm in norms.items()}
        made["metrics"][-1] |= {"gradients": gradients, "exponents": dict.fromkeys(stages, -seed)}
        curve = [0.0, 0.9, 0.5 + 0.2 * seed]
        made["agreement"] = {stage: {"correlation": curve} for stage in stages}
        records[str(seed)] = made
    other = record("kd", 0, 41.0)
    other["metrics"][-1] |= {"gradients": {"ce": {"group1": 1.0}}}
    (shares,) = shares_table(records | {"kd": other}, "csv").splitlines()[1:]
    assert shares == "t → s,spectral,60.00,35.00,0.00,5.00"
    _, teacher, maps = maps_table(records, "csv").splitlines()
    assert teacher == "t → s,(teacher),-9.00,-9.00,-9.00" + "," * 6
    # Over rings beyond DC: (0.9 + 0.5)/2 and (0.9 + 0.7)/2.
    assert maps == "t → s,spectral," + ",".join(["-0.50"] * 3 + ["0.75"] * 3 + ["0.60"] * 3)


def test_table_2_is_recounted() -> None:
    """By hand: 20.37 - 20.72 = -0.35 for setup a, 24.42 - 24.08 = +0.34 for c by the code."""
    ours, theirs = recount().values()
    assert ours == (-0.35, -0.70, 0.15, -0.24, -0.04, -0.40)
    assert theirs == (-0.52, -0.53, 0.34, 0.43, 0.19, -0.22)
    text = recount_table()
    assert "5 of 6" in text
    assert "3 of 6" in text
