"""The paper's questions, most of them asked of smaller networks, in days of two CPU cores.

Fixed before the first run: the outcome is the top-1 error on the 10,000 validation images after
the last epoch; arms are compared seed by seed, as differences with their 95 % intervals.

- Teachers: WRN-28-4 and WRN-16-2, 30 epochs each.
- Is the paper's loss better than Overhaul? WRN-16-2 → WRN-16-1, 12 epochs, 8 seeds: Overhaul, and
  the spectral loss with three sets of weights. ``calibrated`` gives each spectral term a third of
  Overhaul's gradient by the student's maps, as a run of 4 epochs measured it that kept 5,000
  training images aside.
- Each term alone and weaker, the other methods of Table 2, and the losses since the paper. The
  first phases of AB and FT (2 and 5 epochs) come on top of a run's own.
- Setup (c) itself, WRN-28-4 → WRN-16-2, then (b), 15 epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from spectralkd.analysis.gradients import gradient_shares
from spectralkd.losses import METHODS
from spectralkd.reproduction.jobs import STUDENTS, WEIGHTS, Job, teacher_name
from spectralkd.reproduction.lists.full import MAIN_METHODS, MORE_METHODS, PAPER_WEIGHTS
from spectralkd.reproduction.paper_tables import TABLE_2
from spectralkd.reproduction.records import Record
from spectralkd.training.recipes import get_recipe

SEEDS = range(8)
CALIBRATION = "calibration-spectral-100"
SHARE = 1 / 3  # of Overhaul's gradient, for each spectral term

# Of methods whose defaults are those of 240 epochs, or of another pair of networks.
_OPTIONS: dict[str, dict[str, Any]] = {
    "ab": {"init_epochs": 2},  # RepDistiller's 30 of 240 epochs
    "dkd": {"beta": 6.0},  # its authors', and FAM-KD's, for WRN-40-2 → WRN-16-2
    "fam": {"weight": 5.0},
}

_SHORT = {"precision": "bf16", "evaluate_every": 5, "spectra_every": 5}
_PAIR = _SHORT | {"teacher_model": "wrn16_2", "student_model": "wrn16_1", "epochs": 12}


def jobs(known: Mapping[str, Record]) -> Iterator[Job]:
    """In the order of work.

    Args:
        known: records; that of the calibration determines the calibrated weights.
    """
    yield from _teacher(1, "wrn28_4", "wrn16_2")
    yield from _teacher(2, "wrn16_2", "wrn16_1")
    changes: dict[str, Any] = {"holdout": 5000, "epochs": 4, "spectra_every": 1}
    yield _student(2, CALIBRATION, "calibration", "spectral", 100, **changes)
    arms: dict[str, dict[str, Any]] = {"overhaul": {}, "spectral": {}}
    arms["spectral paper weights"] = PAPER_WEIGHTS
    third: dict[str, float] = {}
    if CALIBRATION in known:
        third = calibrated_weights(known[CALIBRATION])
        arms["spectral calibrated"] = third
    for seed in SEEDS:
        for row, changes in arms.items():
            method = "overhaul" if row == "overhaul" else "spectral"
            yield _student(3, _name(row, seed), row, method, seed, **changes)
    yield from _further_arms(third)
    for step, methods in ((5, MAIN_METHODS), (6, MORE_METHODS)):
        yield from (_setup(step, "c", method, seed) for seed in range(3) for method in methods)
    for method in (*MAIN_METHODS, *MORE_METHODS):
        yield from (_setup(7, "b", method, seed) for seed in range(2))


def calibrated_weights(calibration: Record) -> dict[str, float]:
    """β and γ that give L_L1 and L_CPS a third of Overhaul's gradient by the student's maps.

    Args:
        calibration: record of a run of the spectral loss. Each epoch's norms of the gradients,
            over the maps of all stages together, give a ratio; its median counts.
    """
    recipe = calibration["config"]["recipe"]
    ratios: dict[str, list[float]] = {"l1": [], "cps": []}
    for line in calibration["metrics"]:
        shares = gradient_shares(line["gradients"])
        for term, of in ratios.items():
            of.append(shares["overhaul"] / shares[term])
    weights = {"beta": ("l1", recipe["beta"]), "gamma": ("cps", recipe["gamma"])}
    return {
        name: float(f"{SHARE * weight * median(ratios[term]):.3g}")
        for name, (term, weight) in weights.items()
    }


def _further_arms(third: dict[str, float]) -> Iterator[Job]:
    """Each term alone, weaker terms, three seeds; the other methods, two; later losses, three."""
    variants: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
        "CPS sum": ({}, {"cps_reduction": "sum"})
    }
    if third:
        variants |= {
            "L1 alone": (third | {"gamma": 0.0}, {}),
            "CPS alone": (third | {"beta": 0.0}, {}),
            "a tenth": ({name: 0.3 * weight for name, weight in third.items()}, {}),
        }
    for seed in range(3):
        for row, (changes, options) in variants.items():
            yield _student(4, _name(row, seed), row, "spectral", seed, options, **changes)
    for seed in range(2):
        for method in ("baseline", "kd", "at", *MORE_METHODS):
            yield _student(4, _name(method, seed), method, method, seed)
        row = "overhaul paper weight"
        yield _student(4, _name(row, seed), row, "overhaul", seed, alpha=1e-4)
    later = [method for method in METHODS if method not in TABLE_2]
    for seed in range(3):
        for method in later:
            yield _student(4, _name(method, seed), method, method, seed)


def _teacher(step: int, network: str, student: str) -> Iterator[Job]:
    """A teacher, its spectra, and which rings of its maps it relies on."""
    settings = _SHORT | {"epochs": 30, "spectra_every": 1}
    recipe = get_recipe("c", "heo", **settings, teacher_model=network, student_model=student)
    name = teacher_name(network)
    yield Job(step, name, "teacher", recipe, "teacher", ships=WEIGHTS["short"])
    yield Job(step, f"spectra-{network}", "spectra", recipe, "spectra", teacher=name)
    yield Job(step, f"scrambling-{network}", "scrambling", recipe, "scrambling", teacher=name)


def _student(
    step: int,
    name: str,
    row: str,
    method: str,
    seed: int,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Job:
    recipe = get_recipe("c", "heo", **(_PAIR | {"seed": seed} | changes))
    teacher, options = teacher_name("wrn16_2"), options or _OPTIONS.get(method, {})
    ships = WEIGHTS["short"] + STUDENTS[row] if seed == 0 and row in STUDENTS else None
    return Job(step, name, row, recipe, "distill", method, options, teacher, ships)


def _setup(step: int, setup: str, method: str, seed: int) -> Job:
    recipe = get_recipe(setup, "heo", **_SHORT, epochs=15, seed=seed)
    name, teacher = f"{setup}-{method}-{seed}", teacher_name("wrn28_4")
    return Job(step, name, method, recipe, "distill", method, _OPTIONS.get(method, {}), teacher)


def _name(row: str, seed: int) -> str:
    return f"wrn16_1-{row.replace(' ', '-')}-{seed}"
