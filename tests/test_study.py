"""Does the study make every run of the paper, a little at a time, and record what it measured?"""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from spectralkd.analysis.bands import band_grid
from spectralkd.analysis.gradients import gradient_shares
from spectralkd.analysis.intervals import interval, paired_difference
from spectralkd.analysis.sensitivity import RingScrambling
from spectralkd.data import DATASETS, load_data
from spectralkd.data.images import ImageArray
from spectralkd.losses import METHODS
from spectralkd.losses.base import chosen_options
from spectralkd.losses.options import with_recipe
from spectralkd.models import PRETRAINED, create_model
from spectralkd.models.weights import read_metadata, save_half
from spectralkd.reproduction import forecast as forecasts
from spectralkd.reproduction import measurements, records, study
from spectralkd.reproduction.comparison import arms, comparison_table, last_errors, recount
from spectralkd.reproduction.forecast import forecast
from spectralkd.reproduction.jobs import Job
from spectralkd.reproduction.lists import study_jobs
from spectralkd.reproduction.lists.short import CALIBRATION, SEEDS, calibrated_weights
from spectralkd.reproduction.paper_tables import TABLE_2, record_table
from spectralkd.reproduction.records import (
    PACKAGED,
    read_records,
    scrambling_from_json,
    scrambling_to_json,
    spectrum_from_json,
    spectrum_to_json,
    write_record,
)
from spectralkd.reproduction.study import run_study, study_state
from spectralkd.spectra.power import RadialPowerSpectrum, with_ring
from spectralkd.spectra.powerlaw import fit_power_law
from spectralkd.training.evaluate import evaluate
from spectralkd.training.lock import locked
from spectralkd.training.recipes import Recipe, get_recipe
from spectralkd.training.run_folder import Run

ROOT = Path(__file__).resolve().parents[1]


def test_the_full_list_has_every_cell_of_table_2_and_every_method() -> None:
    jobs = study_jobs("full")
    assert len({job.name for job in jobs}) == len(jobs)
    done = {(job.recipe.setup, job.row) for job in jobs if job.recipe.preset == "heo"}
    for setup in "abcd":
        for method in ("baseline", "kd", "at", "overhaul", "spectral"):
            assert (setup, method) in done
    assert {row for setup, row in done if setup == "c"} >= set(TABLE_2) - {"teacher"}
    assert set(TABLE_2) - {"teacher"} <= set(METHODS)
    seeds = [j.recipe.seed for j in jobs if (j.recipe.setup, j.row, j.step) == ("c", "spectral", 3)]
    assert sorted(seeds) == [0, 0, 1, 1, 2, 2]  # in both presets


@pytest.mark.parametrize("size", ["full", "short"])
def test_order_of_work(size: study.Size) -> None:
    jobs = study_jobs(size, read_records(size))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert [job.step for job in jobs] == sorted(job.step for job in jobs)
    for job in jobs:
        assert job.teacher is None or names.index(job.teacher) < names.index(job.name)
        assert (job.teacher is None) == (job.kind == "teacher")


def test_hyper_parameters_are_never_chosen_on_the_validation_set() -> None:
    ablations = [job for job in study_jobs("full") if job.step == 4]
    assert len(ablations) > 10
    assert all(job.recipe.holdout == 5000 for job in ablations)
    weights = {job.recipe.beta for job in ablations} | {job.recipe.gamma for job in ablations}
    assert {1e-4, 1e-3, 1e-2, 1e-1, 1.0} <= weights  # two decades and more


def test_the_full_list_changes_nothing_that_the_paper_sets() -> None:
    free = {"evaluate_every", "spectra_every", "seed", "holdout", "alpha", "beta", "gamma"}
    assert len(study_jobs("full")) > 100
    for job in study_jobs("full"):
        plain = get_recipe(job.recipe.setup, job.recipe.preset)
        changed = {k for k, v in vars(job.recipe).items() if v != getattr(plain, k)}
        assert changed <= free


# --- the short list -------------------------------------------------------------------------------


def calibration(beta: float, gamma: float) -> dict[str, Any]:
    """A record in which, at weights of 1, L_L1 pulls 5 times and L_CPS 0.02 times as strongly."""
    norms = {"ce": 1.0, "overhaul": 2.0, "l1": 10.0 * beta, "cps": 0.04 * gamma}
    stages = {term: {"a": 0.6 * norm, "b": 0.8 * norm} for term, norm in norms.items()}
    odd = {term: {"a": 0.0, "b": 1.0} for term in norms}  # an epoch unlike the others
    recipe = {"beta": beta, "gamma": gamma}
    lines = [{"gradients": g} for g in (odd, stages, stages, stages, odd)]
    return {"config": {"recipe": recipe}, "metrics": lines}


@pytest.mark.parametrize(("beta", "gamma"), [(1e-3, 1e-2), (0.5, 7.0)])
def test_calibrated_terms_have_a_third_of_overhauls_gradient(beta: float, gamma: float) -> None:
    weights = calibrated_weights(calibration(beta, gamma))
    assert weights["beta"] * 10 == pytest.approx(2 / 3, rel=5e-3)
    assert weights["gamma"] * 0.04 == pytest.approx(2 / 3, rel=5e-3)


def test_four_arms_differ_in_their_weights_alone() -> None:
    known = {CALIBRATION: calibration(1e-3, 1e-2)}
    arms = [job for job in study_jobs("short", known) if job.step == 3]
    assert len(arms) == 4 * 8
    by_seed: dict[int, list[Job]] = {}
    for job in arms:
        by_seed.setdefault(job.recipe.seed, []).append(job)
    assert all(len({study._group(job) for job in jobs}) == 1 for jobs in by_seed.values())
    for job in arms:
        plain = arms[0].recipe
        changed = {k for k, v in vars(job.recipe).items() if v != getattr(plain, k)}
        assert changed <= {"seed", "alpha", "beta", "gamma"}
        assert job.method == ("overhaul" if job.row == "overhaul" else "spectral")
    assert not any(job.recipe.holdout for job in arms)
    assert [j.row for j in study_jobs("short") if j.step == 3][:3] == [a.row for a in arms[:3]]


def test_the_calibration_sees_neither_validation_images_nor_the_seeds_of_the_arms() -> None:
    (job,) = (job for job in study_jobs("short") if job.name == CALIBRATION)
    assert job.recipe.holdout == 5000
    assert job.recipe.seed not in SEEDS


def test_a_forecast_grows_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "_rate", lambda *_, train: 100.0 if train else 1000.0)
    jobs = [job for job in study_jobs("short") if job.step == 3 and job.recipe.seed < 2]
    passes = 12 * 50_000
    # Three students of each of two seeds, and one pass of the teacher for each seed.
    hours = forecast((job, job.epochs) for job in jobs)
    assert hours * 3600 == pytest.approx(2 * (3 * passes / 100 + passes / 1000))
    half = forecast((job, job.epochs // 2) for job in jobs)
    assert half == pytest.approx(hours / 2)
    # KD and AT share a pass; Overhaul's has the batch's statistics; Jacobian's is its own.
    rows = ("kd", "at", "overhaul paper weight", "jacobian", "baseline")
    others = [job for job in study_jobs("short") if job.row in rows and job.recipe.seed == 0]
    others = [job for job in others if job.step == 4]
    assert len(others) == 5
    hours = forecast((job, job.epochs) for job in others)
    assert hours * 3600 == pytest.approx(5 * passes / 100 + 3 * passes / 1000)
    monkeypatch.undo()
    assert 0 < forecast([(jobs[0], 12)]) < 100


def test_epochs_of_all_phases_are_counted() -> None:
    epochs = {job.name: job.epochs for job in study_jobs("short")}
    assert epochs["teacher-wrn16_2-heo-0"] == 30
    assert epochs["spectra-wrn16_2"] == 0
    assert epochs["wrn16_1-kd-0"] == 12
    assert epochs["wrn16_1-ab-0"] == 2 + 12
    assert epochs["wrn16_1-ft-0"] == 5 + 12


# --- records --------------------------------------------------------------------------------------


def test_a_record_gives_back_the_spectrum(tmp_path: Path) -> None:
    metric = RadialPowerSpectrum(ring="jacobian")
    metric.update(torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    spectrum = metric.compute()
    write_record("x", "short", {"spectra": spectrum_to_json(spectrum)}, tmp_path)
    stored = spectrum_from_json(read_records("short", tmp_path)["x"]["spectra"])
    torch.testing.assert_close(stored.power, spectrum.power, rtol=1e-5, atol=0)
    torch.testing.assert_close(stored.stderr, spectrum.stderr, rtol=1e-5, atol=0)
    assert stored.ring == "jacobian"
    assert stored.samples == 9
    assert "x" not in read_records("short")
    assert read_records("full", tmp_path) == read_records("full")  # the package's alone
    (tmp_path / "short/y.json").touch()
    with pytest.raises(ValueError, match=r"short/y\.json: expected JSON, got a damaged file"):
        read_records("short", tmp_path)
    with pytest.raises(ValueError, match="size: expected one of 'full', 'short', got 'tiny'"):
        read_records("tiny", tmp_path)


def test_scrambled_rings_are_stored_whole() -> None:
    k, error = torch.tensor([[0.1, 0.2], [31.0, 30.0]], dtype=torch.float64)
    found = RingScrambling("layer", k, error, error / 20, error / 10, 60.0, 1.0, 5.5, 29.5, 2.1)
    stored = scrambling_from_json(json.loads(json.dumps(scrambling_to_json(found))))
    for one, other in zip(stored, found, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_short_stretches_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("teacher-wrn16_2-heo-0", "wrn16_1-overhaul-0", "wrn16_1-spectral-0")
    changes = {
        "teacher_model": "wrn10_1",
        "student_model": "wrn10_1",
        "epochs": 2,
        "batch_size": 32,
        "precision": "float32",
        "train_images": 160,
        "validation_images": 100,
        "evaluate_every": 1,
        "spectra_every": 0,
        "data": "cifar100",
    }
    jobs = [
        replace(job, recipe=replace(job.recipe, **changes))
        for job in study_jobs("short")
        if job.name in wanted
    ]
    monkeypatch.setattr(study, "study_jobs", lambda *_: jobs)
    monkeypatch.setattr(records, "PACKAGED", tmp_path / "none")
    noise = torch.randint(0, 256, (160, 32, 32, 3), dtype=torch.uint8)
    few = ImageArray(noise, torch.arange(160) % 100, tuple(map(str, range(100))))
    monkeypatch.setitem(DATASETS, "cifar100", lambda split: few)

    def work(folder: str, minutes: float, steps: float = math.inf) -> list[str]:
        places = {name: tmp_path / folder / name for name in ("runs", "results")}
        said: list[str] = []
        asked = itertools.count()
        settings = {"progress": False, "report": said.append}
        run_study("short", minutes, **places, **settings, stop=lambda: next(asked) > steps)
        return said

    state = study_state("short", runs=tmp_path / "a/runs", results=tmp_path / "a/results")
    assert [s.status for s in state] == ["missing", "waiting", "waiting"]
    assert "stopped; the same command resumes it" in work("a", 10, steps=3)[-1]
    for _ in range(60):
        work("a", 1 / 60)  # a second each
        state = study_state("short", runs=tmp_path / "a/runs", results=tmp_path / "a/results")
        if all(s.status == "recorded" for s in state):
            break
    assert all(s.status == "recorded" for s in state)
    work("b", 10)
    a, b = (read_records("short", tmp_path / f / "results/records") for f in "ab")
    for name in wanted:
        for one, other in zip(a[name]["metrics"], b[name]["metrics"], strict=True):
            one.pop("images_per_second"), other.pop("images_per_second")
            assert one == other, name  # to the last bit, on a CPU
    for name, job in (("", wanted[0]), ("-overhaul", wanted[1]), ("-spectral", wanted[2])):
        file = tmp_path / f"a/results/weights/wrn10_1-cifar100-short{name}.safetensors"
        assert read_metadata(file)["name"] == job
    assert a["wrn16_1-spectral-0"]["config"]["teacher_sha256"]
    assert a["wrn16_1-spectral-0"]["metrics"][-1]["runs"] == 2  # beside Overhaul
    for name in wanted[1:]:
        stages = a[name]["agreement"]
        assert all(0 < values["correlation"][1] <= 1.0001 for values in stages.values())


def test_a_loss_that_is_not_finite_holds_up_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = get_recipe(
        "demo",
        data="photos",
        teacher_model="wrn10_1",
        epochs=1,
        batch_size=20,
        train_images=60,
        validation_images=40,
    )
    jobs = [
        Job(1, "wild", "kd", replace(recipe, lr=1e30), "distill", "kd"),
        Job(1, "tame", "kd", recipe, "distill", "kd"),
        Job(2, "next", "kd", recipe, "distill", "kd"),
    ]
    monkeypatch.setattr(study, "study_jobs", lambda *_: jobs)
    monkeypatch.setattr(study, "_record", lambda _, run, __: {"metrics": run.read_metrics()})
    save_half(
        create_model("wrn10_1", 15), tmp_path / "weights/wrn10_1-cifar100-short.safetensors", {}
    )
    said: list[str] = []
    run_study(*("short", 10), runs=tmp_path, results=tmp_path, progress=False, report=said.append)
    assert "wild: epoch 1 of phase 'train'" in said[0]
    assert read_records("short", tmp_path / "records").keys() >= {"tame", "next"}
    assert [s.status for s in study_state("short", runs=tmp_path, results=tmp_path)][1:] == [
        "recorded"
    ] * 2


@pytest.fixture
def two_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A list of a short job and a long one of one group; settings of a study of it."""
    changes = {"data": "photos", "teacher_model": "wrn10_1", "epochs": 1, "batch_size": 20}
    recipe = get_recipe("demo", **changes, train_images=40, validation_images=20)
    jobs = [
        Job(1, "short", "kd", recipe, "distill", "kd"),
        Job(1, "long", "ab", recipe, "distill", "ab", {"init_epochs": 5}),
    ]
    monkeypatch.setattr(study, "study_jobs", lambda *_: jobs)
    monkeypatch.setattr(study, "_record", lambda _, run, __: {"metrics": run.read_metrics()})
    weights = tmp_path / "weights/wrn10_1-cifar100-short.safetensors"
    save_half(create_model("wrn10_1", 15), weights, {})
    return {"runs": tmp_path, "results": tmp_path, "progress": False, "report": lambda _: None}


def test_a_job_that_another_study_works_on_holds_up_no_other(
    tmp_path: Path, two_jobs: dict[str, Any]
) -> None:
    with locked(tmp_path / "long"):
        run_study("short", 10, **two_jobs)
    states = study_state("short", runs=tmp_path, results=tmp_path)
    assert [s.status for s in states] == ["recorded", "missing"]


def test_a_stop_leaves_the_records_of_what_is_finished(
    tmp_path: Path, two_jobs: dict[str, Any]
) -> None:
    run_study("short", 10, **two_jobs, stop=lambda: Run(tmp_path / "short").finished)
    states = study_state("short", runs=tmp_path, results=tmp_path)
    assert [(s.status, s.epochs, s.job.epochs) for s in states] == [
        ("recorded", 1, 1),
        ("unfinished", 1, 6),
    ]


# --- what comes with the package ------------------------------------------------------------------

SHIPPED = sorted(PRETRAINED.glob("*.safetensors"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_weights_have_the_error_they_say(file: Path, data_root: Path) -> None:
    network, _, pretrained = file.stem.partition("-")
    model = create_model(network, pretrained=pretrained)
    about = read_metadata(file)
    count = 500 if network == "wrn28_4" else 2000  # which takes its time
    found = evaluate(model, load_data("cifar100", root=data_root).subset(count))
    for name in ("top1_error", "top5_error"):
        error = about[name]
        three_errors = 3 * (error * (100 - error) / count) ** 0.5
        assert getattr(found, name) == pytest.approx(error, abs=three_errors)
    assert about["config"]["recipe"]["data"] == "cifar100"


def test_weights_that_are_not_there_are_refused() -> None:
    with pytest.raises(
        ValueError, match="pretrained: expected .*cifar100-short of wrn16_2, .*; got"
    ):
        create_model("wrn16_2", pretrained="imagenet")


@pytest.mark.parametrize("size", ["full", "short"])
def test_every_record_is_of_a_job_of_the_list(size: study.Size) -> None:
    known = read_records(size)
    assert known
    jobs = {job.name: job for job in study_jobs(size, known)}
    for name, record in known.items():
        job = jobs[name]
        assert (record["name"], record["size"], record["row"]) == (name, size, job.row)
        assert record["config"]["made_with"]["torch"]
        if job.kind in ("spectra", "scrambling"):
            assert {"group1", "group2", "group3"} <= {key.split()[-1] for key in record[job.kind]}
            continue
        given = with_recipe(job.method, job.options, vars(job.recipe))
        assert record["config"]["options"] == json.loads(json.dumps(given))
        assert record["method_options"] == json.loads(json.dumps(chosen_options(job.made())))
        recipe = json.loads(json.dumps(vars(job.recipe)))
        # Fields that came later had their defaults before.
        assert json.loads(json.dumps(asdict(Recipe()))) | record["config"]["recipe"] == recipe
        assert len(record["metrics"]) >= job.recipe.epochs
        assert "top1_error" in record["metrics"][-1]


def test_correlations_are_those_of_pairs_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = load_data("photos").subset(6)
    monkeypatch.setattr(measurements, "load_data", lambda *_, **__: photos)
    weights = PRETRAINED / "wrn16_1-cifar100-short.safetensors"
    found = measurements.network_correlations("wrn16_1", weights)
    stages = [f"{state} group{n}" for state in ("trained", "untrained") for n in (1, 2, 3)]
    assert list(found) == ["images", *stages]
    ((x, _),) = photos.batches(6, normalize=False)
    x = x.double() - x.double().mean((-2, -1), keepdim=True)
    beside = [x[..., 1:, :] * x[..., :-1, :], x[..., 1:] * x[..., :-1]]
    across = [x[..., 1:, 1:] * x[..., :-1, :-1], x[..., 1:, :-1] * x[..., :-1, 1:]]
    pairs = torch.cat([product.flatten() for product in (*beside, *across)])
    expected = [float(x.square().mean()), float(pairs.mean())]
    assert found["images"]["correlation"][:2] == pytest.approx(expected, rel=1e-5)
    counts = 2 * 31 * 32, 2 * 31 * 31
    mean_distance = (counts[0] + 2**0.5 * counts[1]) / sum(counts)
    assert found["images"]["distance"][:2] == pytest.approx([0, mean_distance], rel=1e-5)


def test_the_documents_show_the_records() -> None:
    page = (ROOT / "docs" / "study.md").read_text()
    known = read_records("short")
    weights = calibrated_weights(known[CALIBRATION])
    assert f"β = {weights['beta']}, γ = {weights['gamma']}" in page
    assert comparison_table(known, style="markdown") in page
    full = read_records("full")
    for about, found in (
        ("WRN-28-4, 200 epochs", full["scrambling-wrn28_4"]),
        ("WRN-28-4, 30 epochs", known["scrambling-wrn28_4"]),
        ("WRN-16-2, 30 epochs", known["scrambling-wrn16_2"]),
    ):
        for stage, of in found["scrambling"].items():
            error, stderr = [*of["error"], of["joint_error"]], of["stderr"]
            bars = (stderr[0], stderr[-1], of["joint_stderr"])
            rises = [value - of["clean_error"] for value in (error[0], error[-2], error[-1])]
            cells = [f"{rise:+.1f} ± {bar:.1f}" for rise, bar in zip(rises, bars, strict=True)]
            assert f"| {about} | {stage} | {' | '.join(cells)} |" in page
    for about, record, network in (
        ("WRN-28-4, 200 epochs", full, "wrn28_4"),
        ("after 30 epochs", known, "wrn28_4"),
        ("WRN-16-2, 30 epochs", known, "wrn16_2"),
    ):
        (line,) = [row for row in page.splitlines() if row.startswith("|") and f"{about}, " in row]
        error = record[f"teacher-{network}-heo-0"]["metrics"][-1]["top1_error"]
        ends = ", ".join(f"−{-end:.2f}" for end in stage_ends(record[f"spectra-{network}"]))
        assert f"{about}, {error:.2f} % error | {ends} |" in line
    for name, before in (
        ("wrn28_4-cifar100", '`create_model("wrn28_4", pretrained="cifar100")`'),
        ("wrn28_4-cifar100-short", '`"cifar100-short"` after 30 epochs'),
        ("wrn16_2-cifar100-short", '`create_model("wrn16_2", pretrained="cifar100-short")`'),
    ):
        error = read_metadata(PRETRAINED / f"{name}.safetensors")["top1_error"]
        after = page.split(before, 1)[1].split("%")[0]
        assert after.split()[-1] == f"{error:.2f}"


def stage_ends(record: dict[str, Any]) -> list[float]:
    """Exponents of the trained stages, |k| × ring mean, batch statistics."""
    groups = (record["spectra"][f"trained batch group{n}"] for n in (1, 2, 3))
    spectra = (with_ring(spectrum_from_json(stored), "jacobian") for stored in groups)
    return [fit_power_law(s.frequency, s.power).exponent for s in spectra]


def test_what_the_readme_says_of_the_paper_follows_from_records() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    known, full = read_records("short"), read_records("full")
    stored = full["spectra-wrn28_4"]["spectra"]
    spectra = {
        name: with_ring(spectrum_from_json(stored[name]), "jacobian")
        for name in ("images", "images pooled")
    }
    inside = (grid := band_grid(spectra["images"]))[grid.isfinite()]
    assert f"from −{-inside.max():.1f} to −{-inside.min():.1f}" in readme
    pooled, images = spectra["images pooled"], spectra["images"]
    after = fit_power_law(pooled.frequency, pooled.power, band=(1 / 8, 1 / 2))
    before = fit_power_law(images.frequency, images.power, band=(1 / 16, 1 / 4))
    assert f"Pooled 2×2 it is −{-after.exponent:.2f}, and −{-before.exponent:.2f} before" in readme
    ends = stage_ends(full["spectra-wrn28_4"])
    assert ", ".join(f"−{-end:.2f}" for end in ends) + " at the ends of the groups" in readme
    error = full["teacher-wrn28_4-heo-0"]["metrics"][-1]["top1_error"]
    assert f"({error} % error, the paper's {TABLE_2['teacher'][2]})" in readme
    added = {
        stage: [error - found["clean_error"] for error in found["error"]]
        for stage, found in full["scrambling-wrn28_4"]["scrambling"].items()
    }
    joint = {
        stage: (found["joint_error"] - found["clean_error"], found["joint_stderr"])
        for stage, found in full["scrambling-wrn28_4"]["scrambling"].items()
    }
    assert "by {:.1f} ± {:.1f} points at its last stage".format(*joint["group3"]) in readme
    assert f"by {joint['group1'][0]:.1f} and {joint['group2'][0]:.1f} at the others" in readme
    one = [max(added[stage]) for stage in ("group1", "group2")]
    assert "in one ring, by up to {:.1f} and {:.1f}".format(*one) in readme
    shares = [gradient_shares(line["gradients"]) for line in known[CALIBRATION]["metrics"]]
    assert f"at most {100 * max(share['cps'] for share in shares):.2f} % of the gradient" in readme
    assert all(0.5 <= share["overhaul"] < 0.52 for share in shares)
    assert "Overhaul's term half;" in readme
    last = [
        gradient_shares(record["metrics"][-1]["gradients"])
        for record in arms(known)["wrn16_2", "wrn16_1"]["spectral paper weights"]
    ]
    cps, overhaul = (100 * fmean(share[term] for share in last) for term in ("cps", "overhaul"))
    assert f"with the paper's α, {cps:.2f} % against {overhaul:.0f} %" in readme
    assert all(share["cps"] < share["overhaul"] / 100 for share in (*last, *shares))
    summed = gradient_shares(known["wrn16_1-CPS-sum-0"]["metrics"][-1]["gradients"])
    assert 0.18 < summed["cps"] / summed["overhaul"] < 0.22
    assert "Summed over images and rings, it has a fifth of Overhaul's" in readme
    errors = last_errors(known)["wrn16_2", "wrn16_1"]
    means = {arm: interval(list(found.values())).mean for arm, found in errors.items()}
    assert f"{len(errors['overhaul'])} seeds): {means['overhaul']:.2f} % error with" in readme
    both, more = (
        paired_difference(errors[arm], errors["overhaul"])
        for arm in ("spectral", "spectral calibrated")
    )
    ends = f"(95 % interval of the difference {both.low:.2f} to {both.high:.2f})"
    assert f"{means['spectral']:.2f} with both terms {ends}" in readme
    stronger = f"{means['spectral calibrated']:.2f} with stronger ones"
    assert f"{stronger} ({more.low:.2f} to {more.high:.2f}), more in every seed" in readme
    for arm in ("spectral", "spectral calibrated"):
        assert all(errors[arm][seed] > error for seed, error in errors["overhaul"].items())
    assert f"{means['spectral paper weights']:.2f} with the paper's smaller weights" in readme
    assert 0 < both.low < more.low  # worse than Overhaul alone
    assert f"; {means['baseline']:.2f} without a teacher ({len(errors['baseline'])} se" in readme
    assert means["overhaul"] < means["spectral"] < means["spectral calibrated"]
    own = last_errors(known)["wrn28_4", "wrn16_2"]
    worse = [own["spectral"][seed] - error for seed, error in own["overhaul"].items()]
    assert "Two seeds of setup (c) agree ({:.1f} and {:.1f} points)".format(*worse) in readme
    wins = [sum(d < 0 for d in row) for row in recount().values()]
    assert f"in {wins[0]} of 6 setups" in readme
    assert f"in {wins[1]} of 6 by that" in readme
    for row in recount().values():
        mean = interval(list(row))
        said = rf"−{-mean.mean:.2f}( points on average)?, (95 % interval )?−{-mean.low:.2f} to "
        assert re.search(said + rf"\+{mean.high:.2f}", readme)


def test_each_cell_of_the_table_is_computed_from_records() -> None:
    found: dict[tuple[str, str], list[float]] = {}
    shown_rows = {*TABLE_2, "spectral paper weights"}
    for path in sorted((PACKAGED / "short").glob("*.json")):
        record = json.loads(path.read_text())
        recipe = record["config"].get("recipe")
        if recipe and recipe["holdout"] == 0 and record["row"] in shown_rows:
            networks = f"{recipe['teacher_model']} → {recipe['student_model']}"
            place = found.setdefault((record["row"], f"setup {recipe['setup']}, {networks}"), [])
            place.append(record["metrics"][-1]["top1_error"])
    lines = record_table(read_records("short"), style="markdown").splitlines()
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    shown = {
        (row[0], setup): cell
        for row in rows
        for setup, cell in zip(header[1:], row[1:], strict=True)
        if cell != "–"
    }
    assert set(shown) == set(found)
    for place, errors in found.items():
        assert shown[place].startswith(f"{statistics.median(errors):.2f}")
        assert (f"{len(errors)} seeds" in shown[place]) == (len(errors) > 1)


def test_full_records_stand_beside_the_papers_numbers() -> None:
    recipe = {"setup": "c", "preset": "heo", "holdout": 0}
    recipe |= {"teacher_model": "wrn28_4", "student_model": "wrn16_2"}
    records = {
        str(seed): {
            "size": "full",
            "row": "overhaul",
            "config": {"recipe": recipe},
            "metrics": [{"top1_error": 99.0}, {"top1_error": 24.0 + seed}],
        }
        for seed in range(3)
    }
    table = record_table(records)
    assert "24.27 (code 24.08) / 25.00 (24.00 to 26.00, 3 seeds)" in table


def test_networks_of_one_setup_have_columns_of_their_own() -> None:
    def record(row: str, teacher: str, student: str, error: float) -> dict[str, Any]:
        recipe = {"setup": "c", "preset": "heo", "holdout": 0}
        recipe |= {"teacher_model": teacher, "student_model": student}
        lines = [{"top1_error": error}]
        return {"size": "short", "row": row, "config": {"recipe": recipe}, "metrics": lines}

    table = record_table(
        {
            "a": record("teacher", "wrn28_4", "wrn16_2", 20.0),
            "b": record("teacher", "wrn16_2", "wrn16_1", 30.0),
            "c": record("kd", "wrn28_4", "wrn16_2", 25.0),
            "d": record("kd", "wrn16_2", "wrn16_1", 35.0),
            "e": record("at", "wrn16_2", "wrn16_1", 36.0),
        },
        style="markdown",
    )
    header, _, *rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
    assert header[1:] == ["setup c, wrn16_2 → wrn16_1", "setup c, wrn28_4 → wrn16_2"]
    assert rows == [["teacher", "30.00", "20.00"], ["kd", "35.00", "25.00"], ["at", "36.00", "–"]]
