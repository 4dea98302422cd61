"""Runs as processes of their own, which outlive the program that started them (POSIX systems).

A launched run's folder also holds ``launch.json``, its command and its process, and
``launch.log``, everything that it printed.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import torch

from spectralkd.data.cifar import cifar_folder
from spectralkd.training.recipes import FREE_FIELDS, Recipe, recipe_changes
from spectralkd.training.run_folder import Run, differences

Task = Literal["distill", "teacher", "student"]
Status = Literal["running", "finished", "stopped", "failed"]

_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Launch:
    """A run to be started.

    Attributes:
        run: its folder.
        recipe: see ``recipes.get_recipe``.
        task: distill, or train the recipe's teacher, or its student alone.
        method: one of ``losses.METHODS``; used by ``"distill"``.
        teacher: a finished run's folder or a file of weights; if omitted, it is trained first.
        processes: number of processes, one for each GPU.
        port: TCP port at which several processes meet.
        options: the method's own arguments, as ``api.distill``.
    """

    run: Path
    recipe: Recipe
    task: Task = "distill"
    method: str = "spectral"
    teacher: Path | None = None
    processes: int = 1
    port: int = 29500
    options: dict[str, Any] = field(default_factory=dict)


class RunState(NamedTuple):
    """The state of a run, from its folder.

    Attributes:
        status: ``"stopped"`` runs were asked to end; ``"failed"`` ones ended by themselves.
        epochs: finished epochs.
        total: epochs of the whole run; 0 where it did not get so far as to record that.
        last_words: the end of what a failed run printed.
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
        for name, value in launch.options.items():
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
    if recipe.data == "imagefolder" and not (recipe.root and Path(recipe.root).is_dir()):
        found.append(f"root: expected the folder of the images, got {recipe.root!r}")
    if launch.task == "distill" and launch.teacher:
        weights = launch.teacher / "model.safetensors"
        if not (weights if launch.teacher.is_dir() else launch.teacher).is_file():
            found.append(f"teacher: expected a finished run or a file, got {str(launch.teacher)!r}")
    if folder.is_file():
        found.append(f"run: expected a folder, got the file {str(folder)!r}")
    elif (folder / "config.json").is_file() or (folder / "launch.json").is_file():
        status = run_state(folder).status
        if status in ("running", "finished"):
            found.append(f"run: {folder} is in use: it is {status}; choose another folder")
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
    if recipe.data.startswith("cifar"):
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
    _start(launch.run, launch_command(launch))


def resume(run: str | Path) -> None:
    """Resume a launched run with its own command.

    Raises:
        FileNotFoundError: it was not launched from here.
        ValueError: it is running or finished.
    """
    path = Path(run)
    if not (path / "launch.json").is_file():
        raise FileNotFoundError(
            f"run: {path} has no launch.json: it was started on the command line; resume it there"
        )
    if (status := run_state(path).status) in ("running", "finished"):
        raise ValueError(f"run: expected a stopped or failed run, {path} is {status}")
    _start(path, _read_launch(path)["command"])


def stop(run: str | Path) -> None:
    """Ask a launched run to end; a single process saves its state first.

    Raises:
        FileNotFoundError: it was not launched from here.
    """
    path = Path(run)
    if not (about := _read_launch(path)):
        raise FileNotFoundError(
            f"run: {path} has no launch.json: it was started on the command line; stop it there"
        )
    (path / "launch.json").write_text(json.dumps(about | {"stopped": True}))
    launcher, *_ = _processes(path) or [None]
    if launcher is None:
        return
    # The launcher of one process would not pass the signal on; that of several does.
    several = "--multi_gpu" in about["command"]
    target = launcher if several else next(iter(launcher.children()), launcher)
    target.terminate()


def run_state(run: str | Path) -> RunState:
    """The state of the run in a folder."""
    path = Path(run)
    known, total, epochs, status = _read_launch(path), 0, 0, "stopped"
    if (path / "config.json").is_file():
        folder = Run(path)
        total = folder.read_config()["recipe"]["epochs"]
        epochs = len(folder.read_metrics())
        status = "finished" if folder.finished else "stopped"
    if _processes(path):
        status = "running"
    elif status == "stopped" and known and not known.get("stopped"):
        return RunState("failed", epochs, total, _last_words(path))
    return RunState(status, epochs, total)  # type: ignore[arg-type]


def find_runs(folder: str | Path) -> list[Path]:
    """Folders of runs in a folder and in its folders, by name."""
    found = {
        path.parent
        for name in ("config.json", "launch.json")
        for path in (*Path(folder).glob(f"*/{name}"), *Path(folder).glob(f"*/*/{name}"))
    }
    return sorted(found)


def _start(path: Path, command: list[str]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if not torch.cuda.is_available():
        # OpenMP threads that spin while they wait slow down ten- to eighty-fold beside other work.
        environment.setdefault("OMP_WAIT_POLICY", "passive")
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
    created = psutil.Process(process.pid).create_time()
    about = {"command": command, "process": process.pid, "created": created}
    (path / "launch.json").write_text(json.dumps(about))


def _processes(path: Path) -> list[psutil.Process]:
    """The launcher of a run and its descendants; none once the launcher has ended."""
    for process in _started:
        process.poll()  # collects those that ended: they would stay as zombies
    about = _read_launch(path)
    try:
        launcher = psutil.Process(about.get("process", -1))
        # Another process may have got the same number since.
        same = abs(launcher.create_time() - about["created"]) < 2
        if not same or launcher.status() == psutil.STATUS_ZOMBIE:
            return []
        return [launcher, *launcher.children(recursive=True)]
    except (psutil.Error, ValueError):
        return []


def _read_launch(path: Path) -> dict[str, Any]:
    file = path / "launch.json"
    about: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return about


def _last_words(path: Path, lines: int = 40) -> str:
    with (path / "launch.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 20_000))
        text = log.read().decode(errors="replace")
    # A progress bar overwrites its line: what it wrote last is the line.
    return "\n".join(line.rpartition("\r")[2] for line in text.rstrip().split("\n")[-lines:])


def _changed(launch: Launch) -> list[str]:
    file = launch.run / "config.json"
    if not file.is_file():
        return []
    known = json.loads(file.read_text())
    method = launch.method if launch.task == "distill" else "baseline"
    asked = {"role": launch.task, "method": method, "recipe": asdict(launch.recipe)}
    return differences({name: known[name] for name in asked}, asked, FREE_FIELDS)


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
