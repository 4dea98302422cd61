"""Works through the list of runs behind the paper's tables and figures, a little at a time.

What a finished run measured becomes a record (``records``) in a folder of the user's, and the next
stretch of time goes to the first run that has none. The installed package is never written to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from spectralkd.analysis.activations import activation_spectra, image_spectrum
from spectralkd.data import load_data
from spectralkd.models import PRETRAINED, create_model, model_stages
from spectralkd.models.features import Statistics
from spectralkd.models.weights import load_weights, save_half
from spectralkd.reproduction.jobs import WEIGHTS, Job, study_jobs
from spectralkd.reproduction.records import (
    Record,
    Size,
    read_records,
    spectrum_to_json,
    write_record,
)
from spectralkd.training.api import distill, train
from spectralkd.training.evaluate import evaluate
from spectralkd.training.recipes import Recipe
from spectralkd.training.run_folder import Run, file_digest, made_with
from spectralkd.training.together import Stopped

Status = Literal["recorded", "unfinished", "missing", "waiting"]

# The user's folder for records and weights.
RESULTS = Path("results")


class JobState(NamedTuple):
    """How far a job is; ``"waiting"`` is for its teacher."""

    job: Job
    status: Status
    epochs: int


def study_state(size: Size, runs: Path, results: Path = RESULTS) -> list[JobState]:
    """The state of each job of the list.

    Args:
        size: of the list.
        runs, results: as ``run_study``.
    """
    known = read_records(size, results / "records")
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
    results: Path = RESULTS,
    root: str | None = None,
    progress: bool = True,
    report: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Work through the list for a while; a run that is unfinished then resumes the next time.

    Args:
        size: of the list.
        minutes: after which the run in progress saves its state and the study ends.
        runs: folder of the runs.
        results: folder that gets ``records`` and ``weights``; both are also looked up in the
            package.
        root: folder of CIFAR-100, as ``load_data``.
        progress: show progress bars.
        report: called with a line on each finished run.
        stop: asked after each step; once it returns True, the study ends.

    Raises:
        as ``training.api.train``.
    """
    end = time.monotonic() + 60 * minutes

    def over() -> bool:
        return stop() or time.monotonic() >= end

    for job in study_jobs(size):
        known = read_records(size, results / "records")
        if job.name in known or (job.teacher and job.teacher not in known):
            continue
        if over():
            break
        try:
            record = _run(job, size, runs, results / "weights", root, progress, over)
        except Stopped as stopped:
            report(str(stopped))
            break
        write_record(job.name, size, record, results / "records")
        report(f"{job.name}: {_summary(record)}")


def _run(
    job: Job,
    size: Size,
    runs: Path,
    weights: Path,
    root: str | None,
    progress: bool,
    stop: Callable[[], bool],
) -> Record:
    """Run a job to its end and return what it measured."""
    about: Record = {"name": job.name, "size": size, "step": job.step, "row": job.row}
    network = job.recipe.teacher_model
    shipped = f"{network}-{WEIGHTS[size]}.safetensors"
    teacher = weights / shipped if (weights / shipped).is_file() else PRETRAINED / shipped
    if job.kind == "spectra":
        made: Record = {"network": network, "weights_sha256": file_digest(teacher), "seed": 0}
        spectra = _measure(network, teacher, root)
        return about | {"config": made | {"made_with": made_with()}, "spectra": spectra}
    recipe = Recipe(**(vars(job.recipe) | {"root": root}))
    place = runs / job.name
    if job.kind == "distill":
        run = distill(
            recipe,
            place,
            method=job.method,
            teacher=teacher,
            options=job.options,
            progress=progress,
            stop=stop,
        )
    else:
        run = train(recipe, place, role=job.kind, progress=progress, stop=stop)
    config = run.read_config()
    config["recipe"]["root"] = None  # a folder of this machine means nothing elsewhere
    record = about | {
        "config": config,
        "metrics": run.read_metrics(),
        "weights_sha256": file_digest(run.weights_file),
    }
    if job.ships:
        _save_weights(run, weights, job.ships, record, root)
    return record


def _measure(network: str, weights: Path, root: str | None, seed: int = 0) -> dict[str, Any]:
    """Figs. 1 and 2 over CIFAR-100's validation images, as ring means.

    Returns:
        ``spectrum_to_json`` by name: ``"images"``, ``"images pooled"`` (2×2), and for each stage
        ``"<trained|untrained> <running|batch> <stage>"``.
    """
    data = load_data("cifar100", root=root)
    measured = {"images": image_spectrum(data), "images pooled": image_spectrum(data, pool=2)}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    untrained, trained = create_model(network), create_model(network)
    load_weights(trained, weights)
    both: tuple[Statistics, Statistics] = ("running", "batch")
    for state, model in (("untrained", untrained), ("trained", trained)):
        stages = [stage.output for stage in model_stages(model)]
        for statistics in both:
            batches = data.batches(100)
            spectra = activation_spectra(model.to(device), batches, stages, statistics=statistics)
            measured |= {f"{state} {statistics} {stage}": s for stage, s in spectra.items()}
    return {name: spectrum_to_json(spectrum) for name, spectrum in measured.items()}


def _save_weights(run: Run, folder: Path, name: str, record: Record, root: str | None) -> None:
    """Store a trained network in half precision with the error of these very weights."""
    network = record["config"]["network"]
    model = create_model(network)
    load_weights(model, run.weights_file)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    errors = evaluate(model, load_data("cifar100", root=root))
    about = {name: record[name] for name in ("name", "size", "config")}
    save_half(model, folder / f"{network}-{name}.safetensors", about | errors._asdict())


def _summary(record: Record) -> str:
    if "spectra" in record:
        return f"{len(record['spectra'])} spectra"
    last = record["metrics"][-1]
    return f"top-1 error {last['top1_error']:.2f} % after {len(record['metrics'])} epochs"
