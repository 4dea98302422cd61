"""Every run behind the paper's tables and figures, made one after the other, a little at a time.

The list comes in two sizes: ``full`` is the paper's, for a GPU; ``small`` has the same rows with
networks and lengths that two CPU cores can train, and shows that every step runs on CIFAR-100.
What a finished run measured becomes a record (``records``), and the next stretch of time goes to
the first run that has none.

Choices: students of one size share one teacher, preset ``heo``, whose weights come with the
package in half precision, so that anyone can distil from the very same. Hyper-parameters are
chosen on 5,000 training images kept aside (``holdout``), never on the validation set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from spectralkd.data import load
from spectralkd.features import Statistics, activation_spectra
from spectralkd.models import PRETRAINED, create_model, model_stages
from spectralkd.recipes import Preset, Recipe, get_recipe
from spectralkd.records import FOLDER, Record, Size, read_records, spectrum_to_json, write_record
from spectralkd.runs import Run, file_digest, made_with
from spectralkd.spectrum import RadialPowerSpectrum
from spectralkd.train import Stopped, distill, evaluate, train
from spectralkd.weights import load_weights, save_half

Status = Literal["recorded", "unfinished", "missing", "waiting"]

_METHODS = ("baseline", "kd", "at", "overhaul", "spectral")
_MORE_METHODS = ("fitnets", "jacobian", "ft", "ab")
_WEIGHTS = {"full": "cifar100", "small": "cifar100-small"}  # names they are shipped under
_TEACHERS = {"full": "wrn28_4", "small": "wrn16_2"}
# The small stand-ins: less depth, less width, both, and another family.
_SMALL_STUDENTS = {"a": "wrn10_2", "b": "wrn16_1", "c": "wrn10_1", "d": "resnet20"}
_SMALL: dict[str, Any] = {
    "epochs": 10,
    "train_images": 5000,
    "batch_size": 32,
    "evaluate_every": 5,
    "spectra_every": 5,
}
_SMALL_TEACHER: dict[str, Any] = {"epochs": 12, "student_model": "wrn16_1"}


@dataclass(frozen=True)
class Job:
    """One run of the study.

    Attributes:
        step: of the order of work, from 1.
        name: of its folder and its record.
        row: of a table it belongs to: a method, or what an ablation changes.
        recipe: see ``recipes``.
        kind: what to do.
        method, options: as ``train.distill``.
        teacher: name of the job that trains the teacher; None where there is none.
        ships: under which name its network comes with the package, in half precision.
    """

    step: int
    name: str
    row: str
    recipe: Recipe
    kind: Literal["teacher", "student", "distill", "spectra"]
    method: str = "baseline"
    options: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    ships: str | None = None


class JobState(NamedTuple):
    """Where a job stands: ``"waiting"`` is for its teacher."""

    job: Job
    status: Status
    epochs: int


def study_jobs(size: Size) -> list[Job]:
    """The whole list, in the order of work."""
    small, network = size == "small", _TEACHERS[size]
    seeds = (0, 1, 2)
    jobs: list[Job] = []

    def teacher(step: int, preset: Preset, setup: str = "c") -> str:
        changes: dict[str, Any] = {"spectra_every": 1 if small else 10}
        if small:
            changes |= {"teacher_model": network} | _SMALL_TEACHER
        recipe = get_recipe(setup, preset, **changes)
        name = f"teacher-{recipe.teacher_model}-{preset}-0"
        shipped = _WEIGHTS[size] if preset == "heo" else None
        jobs.append(Job(step, name, "teacher", recipe, "teacher", ships=shipped))
        return name

    def student(
        step: int,
        setup: str,
        method: str,
        seed: int,
        preset: Preset = "heo",
        row: str | None = None,
        options: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        settings: dict[str, Any] = {"seed": seed, "spectra_every": 10}
        if small:
            settings |= _SMALL | {"teacher_model": network}
            settings["student_model"] = _SMALL_STUDENTS[setup]
        recipe = get_recipe(setup, preset, **(settings | changes))
        label = (row or method).replace(" ", "-").replace("=", "-")
        name = f"{setup}-{preset}-{label}-{seed}"
        kind: Literal["student", "distill"] = "student" if method == "baseline" else "distill"
        taught_by = None if kind == "student" else (big if setup in "ef" else main)
        shipped = None
        if (setup, preset, seed, label) in (
            ("c", "heo", 0, method) for method in ("baseline", "overhaul", "spectral")
        ):
            shipped = _WEIGHTS[size] + ("" if method == "baseline" else f"-{method}")
        job = Job(
            step, name, row or method, recipe, kind, method, options or {}, taught_by, shipped
        )
        jobs.append(job)

    main = big = teacher(1, "heo")
    if not small:
        teacher(1, "paper")
    jobs.append(Job(2, f"spectra-{network}", "spectra", jobs[0].recipe, "spectra", teacher=main))

    def later(step: int, wait: bool) -> int:
        """The small list has one run of each kind before it has a second of any."""
        return 8 if small and wait else step

    for seed in seeds:
        for method in _METHODS:
            student(later(3, seed > 0), "c", method, seed)
        row = "spectral paper weights"
        student(later(3, seed > 0), "c", "spectral", seed, row=row, alpha=1e-4, beta=1e-4)
    for seed in seeds[: 1 if small else 3]:
        for method in _METHODS:
            student(later(3, True), "c", method, seed, "paper")
    for number, (row, changes, options) in enumerate(_ablations()):
        step = later(4, number > 3)
        student(step, "c", "spectral", 0, row=row, options=options, holdout=5000, **changes)
    for setup in "abd":
        for seed in seeds[: 1 if small else 3]:
            for method in _METHODS:
                wait = setup != "d" or method not in ("baseline", "spectral")
                student(later(5, wait), setup, method, seed)
    for seed in seeds[: 1 if small else 3]:
        for method in _MORE_METHODS:
            student(6, "c", method, seed)
    if not small:
        big = teacher(7, "heo", "e")
        for setup in "ef":
            for method in _METHODS:
                student(7, setup, method, 0)
    else:
        teacher(8, "paper")
    jobs.sort(key=lambda job: job.step)
    return jobs


def _ablations() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, changes of the recipe and options of each variant of the spectral loss."""
    yield "neither term", {"beta": 0.0, "gamma": 0.0}, {}
    yield "L1 alone", {"gamma": 0.0}, {}
    yield "CPS alone", {"beta": 0.0}, {}
    yield "both terms", {}, {}
    yield "L1 and CPS without overhaul", {"alpha": 0.0}, {}
    yield "whole teacher map", {}, {"teacher_map": "identity"}
    for factor in (0.1, 10.0):
        yield f"beta times {factor:g}", {"beta": 1e-3 * factor}, {}
        yield f"gamma times {factor:g}", {"gamma": 1e-2 * factor}, {}
    yield "gamma times 100", {"gamma": 1.0}, {}
    yield "L1 mean", {"beta": 1.0}, {"l1_reduction": "mean"}
    yield "L1 stages equal", {}, {"l1_stages": "equal"}
    yield "CPS stages weighted", {}, {"cps_stages": "overhaul"}
    yield "CPS all rings", {}, {"cps_rings": "all"}


def study_state(size: Size, runs: Path, records: Path = FOLDER) -> list[JobState]:
    """Each job of the list, with what is there of it."""
    known = read_records(size, records)
    found = []
    for job in study_jobs(size):
        epochs = 0
        status: Status = "missing"
        if job.name in known:
            status = "recorded"
            epochs = len(known[job.name].get("metrics", []))
        elif (runs / job.name / "metrics.jsonl").is_file():
            status, epochs = "unfinished", len(Run(runs / job.name).read_metrics())
        elif job.teacher and job.teacher not in known:
            status = "waiting"
        found.append(JobState(job, status, epochs))
    return found


def run_study(
    size: Size,
    minutes: float,
    *,
    runs: Path,
    records: Path = FOLDER,
    weights: Path = PRETRAINED,
    root: str | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Work through the list for a while; what is unfinished at its end goes on next time.

    Args:
        size: of the list.
        minutes: after which the run in progress saves its state and the study ends.
        runs: folder of the runs.
        records, weights: where results go; the package's own places.
        root: folder of CIFAR-100, as ``data.load``.
        progress: show progress bars.
        report: told what was finished.
        stop: asked after each step; a yes ends the study as the time does.

    Raises:
        as ``train.train``.
    """
    end = time.monotonic() + 60 * minutes

    def over() -> bool:
        return stop() or time.monotonic() >= end

    for job in study_jobs(size):
        known = read_records(size, records)
        if job.name in known or (job.teacher and job.teacher not in known):
            continue
        if over():
            break
        try:
            record = _do(job, size, runs, weights, root, progress, over)
        except Stopped as stopped:
            report(str(stopped))
            break
        write_record(job.name, size, record, records)
        report(f"{job.name}: {_summary(record)}")


def figure_spectra(
    network: str, weights: Path, root: str | None = None, images: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """What Figs. 1 and 2 show, over CIFAR-100's validation images, as ring means.

    Returns:
        ``spectrum_to_json`` by name: ``"images"``, ``"images pooled"`` (2×2), and for each stage
        ``"<trained|untrained> <running|batch> <stage>"``; the last stage ``… pooled`` as well.
    """
    data = load("cifar100", root=root).subset(images)
    measured = {}
    for name, pool in (("images", 1), ("images pooled", 2)):
        spectrum = RadialPowerSpectrum(pool=pool)
        for batch, _ in data.batches(500, normalize=False):
            spectrum.update(batch)
        measured[name] = spectrum.compute()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    untrained, trained = create_model(network), create_model(network)
    load_weights(trained, weights)
    both: tuple[Statistics, Statistics] = ("running", "batch")
    for state, model in (("untrained", untrained), ("trained", trained)):
        stages = [stage.output for stage in model_stages(model)]
        for statistics in both:
            spectra = activation_spectra(
                model.to(device), data.batches(100), stages, statistics=statistics, progress=False
            )
            for stage, spectrum_ in spectra.items():
                measured[f"{state} {statistics} {stage}"] = spectrum_
    return {name: spectrum_to_json(spectrum) for name, spectrum in measured.items()}


def _do(
    job: Job,
    size: Size,
    runs: Path,
    weights: Path,
    root: str | None,
    progress: bool,
    stop: Callable[[], bool],
) -> Record:
    """Run a job to its end and say what it measured."""
    about: Record = {"name": job.name, "size": size, "step": job.step, "row": job.row}
    network = job.recipe.teacher_model
    file = weights / f"{network}-{_WEIGHTS[size]}.safetensors"
    if job.kind == "spectra":
        made: Record = {"network": network, "weights_sha256": file_digest(file), "seed": 0}
        spectra = figure_spectra(network, file, root)
        return about | {"config": made | {"made_with": made_with()}, "spectra": spectra}
    recipe = Recipe(**(vars(job.recipe) | {"root": root}))
    place = runs / job.name
    if job.kind == "distill":
        run = distill(
            recipe,
            place,
            method=job.method,
            teacher=file,
            options=job.options,
            progress=progress,
            stop=stop,
        )
    else:
        run = train(recipe, place, role=job.kind, progress=progress, stop=stop)
    config = run.read_config()
    config["recipe"]["root"] = None  # a place on this machine says nothing elsewhere
    record = about | {
        "config": config,
        "metrics": run.read_metrics(),
        "weights_sha256": file_digest(run.weights_file),
    }
    if job.ships:
        _ship(run, weights, job.ships, record, root)
    return record


def _ship(run: Run, folder: Path, name: str, record: Record, root: str | None) -> None:
    """Store a trained network in half precision with the error of these very weights."""
    network = record["config"]["network"]
    model = create_model(network)
    load_weights(model, run.weights_file)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    top1, top5 = evaluate(model, load("cifar100", root=root))
    about = {name: record[name] for name in ("name", "size", "config")}
    errors = {"top1_error": top1, "top5_error": top5}
    save_half(model, folder / f"{network}-{name}.safetensors", about | errors)


def _summary(record: Record) -> str:
    if "spectra" in record:
        return f"{len(record['spectra'])} spectra"
    last = record["metrics"][-1]
    return f"top-1 error {last['top1_error']:.2f} % after {len(record['metrics'])} epochs"
