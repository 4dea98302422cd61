"""The paper's list, for a GPU: every cell of Table 2, of setups (e) and (f) one seed, of the
others three, and ablations. Table 3 is in no list: its runs are ``train imagenet`` and
``distill imagenet``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from spectralkd.reproduction.jobs import STUDENTS, WEIGHTS, Job, teacher_name
from spectralkd.training.recipes import Preset, get_recipe

SEEDS = (0, 1, 2)
_MEASURED = {"evaluate_every": 10, "spectra_every": 10}
MAIN_METHODS = ("baseline", "kd", "at", "overhaul", "spectral")
MORE_METHODS = ("fitnets", "jacobian", "ft", "ab")
PAPER_WEIGHTS = {"alpha": 1e-4, "beta": 1e-4}

# What each variant of the spectral loss changes: fields of the recipe, options of the method.
ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "neither term": ({"beta": 0.0, "gamma": 0.0}, {}),
    "L1 alone": ({"gamma": 0.0}, {}),
    "CPS alone": ({"beta": 0.0}, {}),
    "both terms": ({}, {}),
    "L1 and CPS without overhaul": ({"alpha": 0.0}, {}),
    "whole teacher map": ({}, {"teacher_map": "identity"}),
    "beta times 0.1": ({"beta": 1e-3 * 0.1}, {}),
    "gamma times 0.1": ({"gamma": 1e-2 * 0.1}, {}),
    "beta times 10": ({"beta": 1e-3 * 10.0}, {}),
    "gamma times 10": ({"gamma": 1e-2 * 10.0}, {}),
    "gamma times 100": ({"gamma": 1.0}, {}),
    "L1 mean": ({"beta": 1.0}, {"l1_reduction": "mean"}),
    "L1 stages equal": ({}, {"l1_stages": "equal"}),
    "CPS sum": ({}, {"cps_reduction": "sum"}),
    "CPS stages weighted": ({}, {"cps_stages": "overhaul"}),
    "CPS all rings": ({}, {"cps_rings": "all"}),
}


def jobs() -> Iterator[Job]:
    """Teacher and figures, setup (c), ablations, (a), (b), (d), their other methods, (e), (f)."""
    yield _teacher(1, "c", "heo")
    for kind in ("spectra", "scrambling"):
        teacher = _teacher(2, "c", "heo")
        name = f"{kind}-wrn28_4"
        yield Job(2, name, kind, teacher.recipe, kind, teacher=teacher.name)
    for seed in SEEDS:
        for method in MAIN_METHODS:
            yield _student(3, "c", method, seed)
        yield _student(3, "c", "spectral", seed, "spectral paper weights", PAPER_WEIGHTS)
    for seed, method in product(SEEDS, MAIN_METHODS):
        yield _student(3, "c", method, seed, preset="paper")
    for row, (changes, options) in ABLATIONS.items():
        changes = {"holdout": 5000, **changes}
        yield _student(4, "c", "spectral", 0, row, changes, options)
    for setup, seed, method in product("abd", SEEDS, MAIN_METHODS):
        yield _student(5, setup, method, seed)
    for setup, seed, method in product("cabd", SEEDS, MORE_METHODS):
        yield _student(6, setup, method, seed)
    yield _teacher(7, "e", "heo")
    for setup, method in product("ef", (*MAIN_METHODS, *MORE_METHODS)):
        yield _student(7, setup, method, 0)
    yield _teacher(8, "c", "paper")  # which no student needs


def _teacher(step: int, setup: str, preset: Preset) -> Job:
    recipe = get_recipe(setup, preset, **_MEASURED)
    name = teacher_name(recipe.teacher_model, preset)
    ships = WEIGHTS["full"] if preset == "heo" else None
    return Job(step, name, "teacher", recipe, "teacher", ships=ships)


def _student(
    step: int,
    setup: str,
    method: str,
    seed: int,
    row: str | None = None,
    changes: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    preset: Preset = "heo",
) -> Job:
    recipe = get_recipe(setup, preset, **(_MEASURED | {"seed": seed} | (changes or {})))
    row, ships = row or method, None
    if (setup, preset, seed) == ("c", "heo", 0) and row in STUDENTS:
        ships = WEIGHTS["full"] + STUDENTS[row]
    name = f"{setup}-{preset}-{row.replace(' ', '-')}-{seed}"
    teacher = teacher_name(recipe.teacher_model)
    return Job(step, name, row, recipe, "distill", method, options or {}, teacher, ships)
