"""Works through the list of runs behind the paper's tables and figures, a little at a time.

What a finished run measured becomes a record (``records``) in a folder of the user's, and the next
stretch of time goes to the first run that has none. The installed package is never written to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from spectralkd.data import load_data
from spectralkd.data.images import ImageData
from spectralkd.losses.base import chosen_options
from spectralkd.models import PRETRAINED, create_model
from spectralkd.models.features import best_device
from spectralkd.models.weights import load_weights, save_half
from spectralkd.reproduction.jobs import WEIGHTS, Job
from spectralkd.reproduction.lists import study_jobs
from spectralkd.reproduction.measurements import (
    agreement_with_teacher,
    network_correlations,
    network_spectra,
    teacher_scrambling,
)
from spectralkd.reproduction.records import Record, Size, read_records, write_record
from spectralkd.training.api import StudentRun, distill_together, train
from spectralkd.training.evaluate import evaluate
from spectralkd.training.lock import InUse, holder, locked
from spectralkd.training.run_folder import Run, file_digest, made_with
from spectralkd.training.together import Stopped

Status = Literal["recorded", "unfinished", "missing", "waiting"]

# The user's folder for records and weights.
RESULTS = Path("results")


class JobState(NamedTuple):
    """How far a job is, in finished epochs; ``"waiting"`` is for its teacher."""

    job: Job
    status: Status
    epochs: int


def study_state(
    size: Size, *, runs: Path, results: Path = RESULTS, only: str = "*"
) -> list[JobState]:
    """The state of each job of the list.

    Args:
        size, runs, results, only: as ``run_study``.
    """
    known = read_records(size, results / "records")
    found = []
    for job in _chosen(size, known, only):
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
    only: str = "*",
    progress: bool = True,
    report: Callable[[str], None] = print,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Work through the list for a while; a run that is unfinished then resumes the next time.

    Missing students of one step and seed are trained together, behind one pass of their teacher.

    Args:
        size: of the list.
        minutes: after which the runs in progress save their states and the study ends, once
            those of them that were finished are measured and recorded.
        runs: folder of the runs.
        results: folder that gets ``records`` and ``weights``; both are also looked up in the
            package.
        root: folder of CIFAR-100, as ``load_data``.
        only: pattern of the names of jobs, such as ``"wrn16_1-*-0"``; others are left out.
        progress: show progress bars.
        report: called with a line on each finished run.
        stop: asked after each step; once it returns True, the study ends.

    Raises:
        as ``training.api.train``; but a loss that is not finite is reported, and the study goes on.
    """
    end = time.monotonic() + 60 * minutes

    def over() -> bool:
        return stop() or time.monotonic() >= end

    place = _Places(size, runs, results, root)
    tried: set[str] = set()
    while not over():
        known = read_records(size, results / "records")
        ready = [
            job
            for job in _chosen(size, known, only)
            if not {job.name} & {*known, *tried} and (job.teacher is None or job.teacher in known)
        ]
        if not ready:
            break
        group = [job for job in ready if _group(job) == _group(ready[0])]
        tried |= {job.name for job in group}
        try:
            made = _run(group, place, progress, over)
        except Stopped as stopped:
            report(str(stopped))
            for job in group:
                if Run(runs / job.name).finished:  # it need not wait for the others
                    _keep(job, _record(job, Run(runs / job.name), place), place, report)
            break
        except InUse:  # another study works on some of them
            if busy := {job.name for job in group if holder(runs / job.name)}:
                report(f"{', '.join(sorted(busy))}: another process works on it")
                tried -= {job.name for job in group} - busy
            continue
        except FloatingPointError as error:
            report(str(error))
            # The others of its group ran to their ends: their turn is next.
            tried -= {job.name for job in group if Run(place.runs / job.name).finished}
            continue
        for job, record in zip(group, made, strict=True):
            _keep(job, record, place, report)


class _Places(NamedTuple):
    size: Size
    runs: Path
    results: Path
    root: str | None

    def teacher(self, network: str) -> Path:
        """Weights of the list's teacher: the user's own, or those that come with the package."""
        name = f"{network}-{WEIGHTS[self.size]}.safetensors"
        own = self.results / "weights" / name
        return own if own.is_file() else PRETRAINED / name


def _chosen(size: Size, known: dict[str, Record], only: str) -> list[Job]:
    return [job for job in study_jobs(size, known) if fnmatch(job.name, only)]


def _group(job: Job) -> tuple[object, ...]:
    """Equal for students that are trained together; every other job stands alone."""
    if job.kind != "distill":
        return (job.name,)
    r = job.recipe
    return (job.step, job.teacher, r.seed, r.batch_size, r.train_images, r.holdout)


def _run(
    jobs: Sequence[Job], place: _Places, progress: bool, stop: Callable[[], bool]
) -> list[Record]:
    """Run jobs of one group to their end and return what they measured."""
    first = jobs[0]
    network = first.recipe.teacher_model
    if first.kind in ("spectra", "scrambling"):
        weights = place.teacher(network)
        config = {"network": network, "weights_sha256": file_digest(weights)}
        measures = {"scrambling": teacher_scrambling}
        if first.kind == "spectra":
            measures = {"spectra": network_spectra, "correlations": network_correlations}
        with locked(place.runs / first.name):
            measured = {name: of(network, weights, place.root) for name, of in measures.items()}
        return [_about(first, place) | {"config": config | {"made_with": made_with()}} | measured]
    recipes = [replace(job.recipe, root=place.root) for job in jobs]
    if first.kind == "teacher":
        made = [train(recipes[0], place.runs / first.name, progress=progress, stop=stop)]
    else:
        students = [
            StudentRun(recipe, place.runs / job.name, job.method, job.options)
            for job, recipe in zip(jobs, recipes, strict=True)
        ]
        teacher = place.teacher(network)
        made = distill_together(students, teacher, progress=progress, stop=stop)
    return [_record(job, run, place) for job, run in zip(jobs, made, strict=True)]


def _keep(job: Job, record: Record, place: _Places, report: Callable[[str], None]) -> None:
    write_record(job.name, place.size, record, place.results / "records")
    report(f"{job.name}: {_summary(record)}")


def _about(job: Job, place: _Places) -> Record:
    return {"name": job.name, "size": place.size, "step": job.step, "row": job.row}


def _record(job: Job, run: Run, place: _Places) -> Record:
    """What a finished run measured, and how its network agrees with its teacher."""
    config = run.read_config()
    config["recipe"]["root"] = None  # a folder of this machine means nothing elsewhere
    digest = file_digest(run.weights_file)
    measured: Record = {"metrics": run.read_metrics(), "weights_sha256": digest}
    record = _about(job, place) | {"config": config} | measured
    record["method_options"] = chosen_options(job.made())
    data = load_data("cifar100", root=place.root)
    if job.kind == "distill":
        teacher = job.recipe.teacher_model
        record["agreement"] = agreement_with_teacher(
            (teacher, place.teacher(teacher)), (config["network"], run.weights_file), data
        )
    if job.ships:
        _save_weights(run, place.results / "weights", job.ships, record, data)
    return record


def _save_weights(run: Run, folder: Path, name: str, record: Record, data: ImageData) -> None:
    """Store a trained network in half precision with the errors of these very weights."""
    network = record["config"]["network"]
    model = create_model(network)
    load_weights(model, run.weights_file)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    model.to(best_device())
    about = {key: record[key] for key in ("name", "size", "config")}
    errors = evaluate(model, data)._asdict()
    save_half(model, folder / f"{network}-{name}.safetensors", about | errors)


def _summary(record: Record) -> str:
    if "metrics" not in record:
        kind = next(kind for kind in ("spectra", "scrambling") if kind in record)
        return f"{kind} of {len(record[kind])} maps"
    last = record["metrics"][-1]
    return f"top-1 error {last['top1_error']:.2f} % after {len(record['metrics'])} epochs"
