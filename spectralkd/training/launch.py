"""Runs as processes of their own, which outlive the program that started them (POSIX systems).

A launched run's folder also holds ``launch.json``, its settings and its process, and
``launch.log``, everything that it printed. No command is read from a folder: ``resume`` builds it
from the settings. Runs that were started on the command line are known by their locks.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import psutil
import torch

from spectralkd.checks import Range, check_choice, check_ranges
from spectralkd.data.cifar import cifar_folder
from spectralkd.losses.options import named_options, with_recipe
from spectralkd.losses.sum import make_method
from spectralkd.training.lock import Holder, began, holder, locked, process_of
from spectralkd.training.recipes import (
    FREE_FIELDS,
    Recipe,
    get_recipe,
    recipe_changes,
    recipe_like,
)
from spectralkd.training.run_folder import Run, differences, read_json, write_whole

Task = Literal["distill", "teacher", "student"]
Status = Literal["running", "finished", "stopped", "failed", "unreadable"]

_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Launch:
    """A run to be started.

    Attributes:
        run: its folder.
        recipe: see ``recipes.get_recipe``.
        task: distill, or train the recipe's teacher, or its student alone.
        method: one of ``losses.METHODS``, or several joined by ``+``; used by ``"distill"``.
        teacher: a finished run's folder or a file of weights (``models.pretrained_file`` for the
            package's); if omitted, it is trained first.
        processes: number of processes, one for each GPU.
        port: TCP port at which several processes meet.
        options: the method's own arguments, as ``api.distill``; of a sum, by method.
    """

    run: Path
    recipe: Recipe
    task: Task = "distill"
    method: str = "spectral"
    teacher: Path | None = None
    processes: Annotated[int, Range(1, 1024)] = 1
    port: Annotated[int, Range(1024, 65535)] = 29500
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("task", self.task, Task)
        check_ranges(self)


class RunState(NamedTuple):
    """The state of a run, from its folder.

    Attributes:
        status: ``"stopped"`` runs were asked to end; ``"failed"`` ones ended by themselves;
            ``"unreadable"`` folders hold damaged files, or those of another program.
        epochs: finished epochs.
        total: epochs of the whole run; 0 where it did not get so far as to record that.
        last_words: the end of what a failed run printed, or what is wrong with the folder.
    """

    status: Status
    epochs: int
    total: int
    last_words: str = ""


def launch_command(launch: Launch) -> list[str]:
    """The words of the command line that ``start`` runs."""
    recipe = launch.recipe
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    words += ["--num_machines", "1", "--num_processes", str(launch.processes)]
    words += ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the recipe has its own
    if launch.processes > 1:
        words += ["--multi_gpu", "--main_process_port", str(launch.port)]
    elif not torch.cuda.is_available():
        words.append("--cpu")
    command = "distill" if launch.task == "distill" else "train"
    words += ["-m", "spectralkd", command, recipe.setup, "--preset", recipe.preset]
    words += ["--run", str(launch.run)]
    if launch.task == "student":
        words.append("--student")
    if launch.task == "distill":
        words += ["--method", launch.method]
        words += ["--teacher", str(launch.teacher)] if launch.teacher else []
        for name, value in named_options(launch.options).items():
            words += ["--option", f"{name}={value}"]
    for name, value in recipe_changes(recipe).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        for each in value if isinstance(value, tuple) else (value,):
            words += [f"--{option}", str(each)]
    return words


def obstacles(launch: Launch) -> list[str]:
    """Reasons why a run cannot be started; empty where it can."""
    found = []
    recipe, folder = launch.recipe, launch.run
    if launch.processes > max(1, torch.cuda.device_count()):
        found.append(
            f"processes: expected at most {max(1, torch.cuda.device_count())}, one for each GPU, "
            f"got {launch.processes}"
        )
    if launch.processes > 1 and _in_use(launch.port):
        found.append(f"port: {launch.port} is in use by another program; choose another")
    if not recipe.drops and get_recipe(recipe.setup, recipe.preset).drops:  # type: ignore[arg-type]
        found.append("drops: expected at least one, got none; drop_factor 1 keeps the rate")
    if recipe.data == "imagefolder" and not (recipe.root and Path(recipe.root).is_dir()):
        found.append(f"root: expected the folder of the images, got {recipe.root!r}")
    if launch.task == "distill":
        try:
            make_method(launch.method, launch.options)
        except (ValueError, TypeError) as error:
            found.append(str(error))
    if launch.task == "distill" and launch.teacher:
        weights = launch.teacher / "model.safetensors"
        if not (weights if launch.teacher.is_dir() else launch.teacher).is_file():
            found.append(f"teacher: expected a finished run or a file, got {str(launch.teacher)!r}")
    if folder.is_file():
        found.append(f"run: expected a folder, got the file {str(folder)!r}")
    elif (folder / "config.json").is_file() or (folder / "launch.json").is_file():
        state = run_state(folder)
        if state.status in ("running", "finished"):
            found.append(f"run: {folder} is in use: it is {state.status}; choose another folder")
        elif state.status == "unreadable":
            found.append(f"run: {state.last_words}")
        elif changed := _changed(launch):
            found.append(
                f"run: {folder} was started with other settings ({'; '.join(changed)}); choose "
                f"another folder or the same settings"
            )
    return found


def cautions(launch: Launch) -> list[str]:
    """Warnings before starting a run; none of them prevents it."""
    recipe, found = launch.recipe, []
    if not torch.cuda.is_available() and recipe.setup != "demo":
        found.append(
            f"No GPU was found: {recipe.epochs} epochs of setup {recipe.setup} take days on a "
            f"CPU. Fewer epochs, fewer images or the demo recipe take minutes."
        )
    if recipe.data in ("cifar10", "cifar100"):
        place = cifar_folder(recipe.data, recipe.root)
        if not place.is_dir():
            found.append(f"{recipe.data} is not in {place.parent}: it will be downloaded there.")
    if launch.task == "distill" and not launch.teacher:
        found.append("No teacher is given: it is trained first.")
    return found


def start(launch: Launch) -> None:
    """Start or resume a run in a process of its own.

    Raises:
        ValueError: the ``obstacles``.
    """
    if found := obstacles(launch):
        raise ValueError("; ".join(found))
    _start(launch)


def resume(run: str | Path) -> None:
    """Resume a launched run with its own settings, where it now lies.

    Raises:
        FileNotFoundError: it was not launched by ``start``.
        ValueError: it is running or finished, or ``launch.json`` is damaged; or the folder came
            from elsewhere and names code to be imported.
    """
    path = Path(run)
    if not (path / "launch.json").is_file():
        raise FileNotFoundError(
            f"run: {path} has no launch.json: it was started on the command line; resume it there"
        )
    launch, about = _as_launch(path), _read_launch(path)
    if (state := run_state(path)).status in ("running", "finished", "unreadable"):
        words = f": {state.last_words}" if state.last_words else ""
        raise ValueError(f"run: expected a stopped or failed run, {path} is {state.status}{words}")
    recipe = launch.recipe
    names = (launch.method, recipe.data, recipe.teacher_model, recipe.student_model)
    code = [name for name in names if ":" in name]
    if code and about.get("place") != _place(path):
        raise ValueError(
            f"run: {path} was launched elsewhere and would import {', '.join(code)}; if you trust "
            f"it, run {shlex.join(launch_command(launch))}"
        )
    _start(launch)


def stop(run: str | Path) -> None:
    """Ask a run of this machine to end, however it was started; it saves its state first.

    Raises:
        ValueError: it is not running, runs on another machine, or in a program, such as a
            notebook's kernel, that would not save it.
    """
    path = Path(run)
    known = holder(path)
    process = process_of(known) if known else None
    if known and known.process > 0 and not process:
        raise ValueError(f"run: {path} runs on {known.machine}; stop it there")
    if known and process and not known.stops:
        raise ValueError(f"run: {path} runs within process {known.process}; interrupt it there")
    if not process:  # it may be on its way there; the launcher would not pass the signal on
        launcher, *children = _processes(path) or [None]
        process = next(iter(children), launcher)
    if not process:
        raise ValueError(f"run: expected a running run, {path} is {run_state(path).status}")
    if about := _read_launch(path):
        _write_launch(path, about | {"stopped": True})
    process.terminate()


def run_state(run: str | Path) -> RunState:
    """The state of the run in a folder; nothing in the folder makes it raise."""
    path = Path(run)
    try:
        known, total, epochs, status = _read_launch(path), 0, 0, "stopped"
        if (path / "config.json").is_file():
            folder = Run(path)
            epochs, total = folder.progress()
            status = "finished" if folder.finished else "stopped"
        if holder(path) or _processes(path):
            status = "running"
        elif status == "stopped" and known and not known.get("stopped"):
            return RunState("failed", epochs, total, _last_words(path))
    except (ValueError, OSError) as error:
        return RunState("unreadable", 0, 0, str(error))
    return RunState(status, epochs, total)  # type: ignore[arg-type]


def _start(launch: Launch) -> None:
    path, command = launch.run, launch_command(launch)
    environment = dict(os.environ)
    if not torch.cuda.is_available():
        # OpenMP threads that spin while they wait slow down ten- to eighty-fold beside other work.
        # Two threads that wait for each other lose most of their speed where another program
        # needs one of the cores: one core is left to it, and no thread spins while it waits.
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))
    with locked(path):  # against another kernel that starts it at the same moment
        if _processes(path):
            raise ValueError(f"run: {path} is in use: it is running; choose another folder")
        with (path / "launch.log").open("ab") as log:
            log.write(f"\n$ {shlex.join(command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # signals to the notebook's kernel do not reach it
            )
        _started.append(process)
        settings = asdict(launch) | {"run": None}  # the folder may be renamed
        settings["teacher"] = str(launch.teacher.absolute()) if launch.teacher else None
        created = began(psutil.Process(process.pid))
        about = {"launch": settings, "process": process.pid, "created": created}
        _write_launch(path, about | {"place": _place(path)})


def _processes(path: Path) -> list[psutil.Process]:
    """The launcher of a run and its descendants; none once the launcher has ended."""
    for process in _started:
        process.poll()  # collects those that ended: they would stay as zombies
    about = _read_launch(path)
    if about.get("place") != _place(path):  # a copy of the folder
        return []
    try:
        known = Holder(platform.node(), int(about["process"]), float(about["created"]))
        launcher = process_of(known)
        return [launcher, *launcher.children(recursive=True)] if launcher else []
    except (psutil.Error, KeyError, TypeError, ValueError):
        return []


def _place(path: Path) -> str:
    """Names a folder on a machine: the same after it is renamed, another one for its copy."""
    return f"{platform.node()}:{path.stat().st_ino}" if path.is_dir() else ""


def _read_launch(path: Path) -> dict[str, Any]:
    file = path / "launch.json"
    return read_json(file) if file.is_file() else {}


def _write_launch(path: Path, about: dict[str, Any]) -> None:
    write_whole(path / "launch.json", json.dumps(about).encode())


def _as_launch(path: Path) -> Launch:
    """The launch that ``launch.json`` tells of, in the folder where it lies."""
    about = _read_launch(path)
    try:
        settings = about["launch"]
        teacher = Path(settings["teacher"]) if settings["teacher"] else None
        recipe = recipe_like(settings)
        return Launch(**settings | {"run": path, "recipe": recipe, "teacher": teacher})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path / 'launch.json'}: expected the settings of a launch, got {', '.join(about)} "
            f"({error}); start the run again with its settings"
        ) from error


def _last_words(path: Path) -> str:
    if not (path / "launch.log").is_file():
        return ""
    with (path / "launch.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 20_000))
        text = log.read().decode(errors="replace")
    # A progress bar overwrites its line: what it wrote last is the line.
    return "\n".join(line.rpartition("\r")[2] for line in text.rstrip().split("\n")[-40:])


def _changed(launch: Launch) -> list[str]:
    run = Run(launch.run)
    if not run.config_file.is_file():
        return []
    known = run.read_config()
    asked: dict[str, Any] = {"role": launch.task, "method": "baseline", "options": {}}
    if launch.task == "distill":
        asked |= {"method": launch.method, "options": launch.options}
        with suppress(ValueError, TypeError):  # of no such method: another obstacle
            asked["options"] = with_recipe(launch.method, launch.options, vars(launch.recipe))
    asked["recipe"] = asdict(launch.recipe)
    return differences({name: known.get(name) for name in asked}, asked, FREE_FIELDS)


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
