"""Attack runs, settings and files, and print how many attacks they survived.

``attack.py [--seed N] [PART ...]``; the parts are calls, files, both, kill and several. All of them
take about a quarter of an hour on two cores. ``test_hostile`` does a part of it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import competitor
import psutil
import torch
from safetensors.torch import load_file, save_file
from test_cli import run as command_line

from spectralkd.figures.tables import format_table
from spectralkd.models import create_model
from spectralkd.training.lock import holder
from spectralkd.training.recipes import recipe_options
from spectralkd.training.run_folder import Run

HERE = Path(__file__).resolve().parent
TINY = ("--train-images", 60, "--validation-images", 60, "--batch-size", 20)

Call = tuple[object, ...]


# --- nonsense on the command line -----------------------------------------------------------------


def nonsense_calls() -> list[Call]:
    """Command lines that are wrong, most of them in the value of the last option."""
    calls: list[Call] = []
    commands: dict[str, Call] = {
        "train": ("train", "demo", "--student", "--run", "r", *TINY, "--epochs", 1),
        "distill": ("distill", "demo", "--run", "r", *TINY, "--epochs", 1),
        "demo": ("demo", "--run", "r", *TINY, "--epochs", 1),
    }
    for command in commands.values():
        for name, (kind, _) in recipe_options().items():
            option = f"--{name.replace('_', '-')}"
            calls += [(*command, option, value) for value in _wrong(name, kind)]
    for command in ("distill", "spectra"):
        start = commands.get(command, (command,))
        calls += [(*start, option, value) for option, values in _WORDS.items()
                  for value in values if option not in _NOT.get(command, ())]  # fmt: skip
    calls += [(*commands["distill"], "--method", m, "--option", o) for m, o in _OPTIONS]
    calls += [
        *((command, "demo", "--run", value) for command in ("train", "distill") for value in ("",)),
        *(("train", "--run", "r", value) for value in ("", "z", "Demo")),
        *(("recipe", value) for value in ("", "z")),
        *(("recipe", "c", "--preset", value) for value in ("", "hinton")),
        *(("table", value) for value in ("", "nowhere")),
        *(("table", "nowhere", "--style", value) for value in ("", "pdf")),
        *(("study", "--minutes", value) for value in ("", "-1", "nan", "x", "inf")),
        *(("study", "--size", value) for value in ("", "huge")),
        *(("bench", value) for value in ("", "everything")),
        *(("bench", "losses", "--device", value) for value in ("", "gpu", "cuda:99")),
        *(("demo", "--output", value) for value in ("", ".", "none/x.html")),
        ("nonsense",),
        ("train", "demo", "--run"),
        ("train", "demo"),
        ("train", "--run=r"),
        ("train", "demo", "--run", "r", "--nonsense"),
    ]
    return calls


def _wrong(name: str, kind: Any) -> Iterable[str]:
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is tuple:
        return ("", "x", "-0.5", "0", "1", "1.5", "nan", "inf")
    if bool in kinds:
        return ()
    if int in kinds:
        zero = () if name in ("seed", "holdout", "spectra_every", "workers") else ("0",)
        return ("", "x", "-1", "1.5", "nan", "1e3", f"{10**23}", *zero)
    if float in kinds:
        return ("", "x", "-1", "nan", "inf", "-inf", "1e999")
    if str in kinds:
        model = ("wrn11_1", "wrn10_x", "os:no_such", "no.such.module:name", ":")
        return ("", " ", "nowhere", *(model if name.endswith("model") else ()))
    return ("", "nonsense")


_WORDS: dict[str, tuple[str, ...]] = {
    "--teacher": ("", "nowhere"),
    "--method": ("", "kdd", "os:no_such", "os:getcwd", ":"),
    "--option": ("", "x", "=", "alpha", "alpha=", "alpha=x", "alpha=nan", "alpha=-1", "delta=3"),
    "--layers": ("", "no_such", "group1=", "=group1", "no=such"),
    "--layout": ("", "chw", "group1=chw", "no_such=nchw"),
    "--resize": ("", "stretch"),
    "--data": ("", "mnist", "os:no_such"),
    "--root": ("", "nowhere"),
    "--image-size": ("", "0", "-1", "x", "100000"),
    "--images": ("", "0", "-1", "x"),
    "--model": ("", "wrn11_1", "torchvision/none", "timm/none", "os:no_such"),
    "--weights": ("", "nowhere"),
    "--pretrained": ("", "nothing"),
    "--statistics": ("", "moving"),
    "--ring": ("", "sum"),
    "--window": ("", "hamming"),
    "--batch-size": ("", "0", "-1", "x"),
    "--seed": ("", "-1", "x", "1.5", f"{2**64}"),
    "--device": ("", "gpu", "cuda:99", "meta:x"),
    "--output": ("", ".", "none/x.html"),
}
_NOT = {
    "distill": {
        *("--data", "--root", "--image-size", "--images", "--model", "--weights", "--pretrained"),
        *("--statistics", "--ring", "--window", "--batch-size", "--device", "--output", "--seed"),
    },
    "spectra": {"--teacher", "--method", "--option", "--resize"},
}
_OPTIONS = (
    ("kd", "temperature=0"),
    ("kd", "temperature=-1"),
    ("kd", "weight=2"),
    ("ab", "init_epochs=-1"),
    ("ab", "init_epochs=1.5"),
    ("ft", "paraphraser_lr=nan"),
    ("ft", "rate=0"),
    ("fitnets", "stage=-1"),
    ("jacobian", "of=student"),
    ("spectral", "cps_rings=some"),
    ("spectral", "eps=inf"),
)


def complaint(call: Call, folder: Path) -> str:
    """What is wrong with the answer to a wrong command; empty where nothing is."""
    done = command_line(*call, cwd=folder)
    left = sorted(path.name for path in folder.iterdir())
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    lines = done.stderr.splitlines()
    problems = [f"left {left}"] if left else []
    if done.returncode != 2:
        problems.append(f"status {done.returncode}")
    if len(lines) != 1 or not lines[0].startswith("spectralkd: "):
        problems.append(f"{len(lines)} lines")
    option, value = str(call[-2:][0]), str(call[-1])
    if option.startswith("--") and not value.startswith("--"):
        name = {"--option": "", "--layout": "lay"}.get(option, option.split("-")[-1])
        if name not in done.stderr:
            problems.append("the option is not named")
        parts = [part for part in re.split("[=/]", value) if part] or [value]
        if (
            not any(part in done.stderr for part in parts)
            and option != "--option"
            and value != "1e999"
        ):
            problems.append("the value is not named")
    if problems:
        return f"{' '.join(map(repr, call))}: {', '.join(problems)}: {done.stderr.strip()[-300:]}"
    return ""


# --- processes ------------------------------------------------------------------------------------


def _python(*words: object) -> subprocess.Popen[bytes]:
    place = os.pathsep.join([str(HERE.parent), str(HERE)])
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONPATH": place, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def compete(folder: Path, seed: int, kills: int = 3) -> str:
    """Two processes of one command in one folder, killed at random; what went wrong, if so."""
    chance, run, whole = random.Random(seed), Run(folder / "run"), Run(folder / "whole")
    for number in range(kills + 1):
        both = [competitor.start(run.path) for _ in range(2)]
        if number < kills:
            end = time.monotonic() + 200
            while not run.checkpoints() and any(process.is_alive() for process in both):
                time.sleep(0.002)
                if time.monotonic() > end:
                    return f"seed {seed}: nothing happened"
            time.sleep(chance.uniform(0, 0.2))
            for process in both:
                chance.choice([process.kill, process.terminate])()
        for process in both:
            process.join(200)
    epochs = [line["epoch"] for line in run.read_metrics()]
    if epochs != [1, 2, 3, 4] or not run.finished:
        return f"seed {seed}: epochs {epochs}, finished {run.finished}"
    if not whole.finished:
        competitor.start(whole.path).join(200)
    return "" if _equal(run, whole) else f"seed {seed}: other numbers"


def _equal(a: Run, b: Run) -> bool:
    differs = ("images_per_second", "runs")
    lines = [[{k: v for k, v in line.items() if k not in differs} for line in run.read_metrics()]
             for run in (a, b)]  # fmt: skip
    ends = [load_file(run.weights_file) for run in (a, b)]
    return lines[0] == lines[1] and all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


def killed(folder: Path, method: str, seed: int) -> str:
    """One process killed at random points until it is done; what went wrong, if anything."""
    chance = random.Random(f"{method} {seed}")
    place, whole = folder / f"{method}-{seed}", folder / f"{method}-whole"
    for path in (place, whole):
        path.mkdir(exist_ok=True)
        shutil.copy(folder / "t.safetensors", path)
    kill = HERE / "kill.py"
    if not Run(whole / "run").finished:
        _python(kill, whole, method, "never", 0).wait(300)
    for _ in range(3):
        point = chance.choice(["step", "line", "write", "replace"])
        limit = {"step": 12, "line": 2}.get(point, 6)
        _python(kill, place, method, point, chance.randint(1, limit)).wait(300)
    _python(kill, place, method, "never", 0).wait(300)
    same = Run(place / "run").finished and _equal(Run(place / "run"), Run(whole / "run"))
    return "" if same else f"{method} {seed}: other numbers"


def _launch(run: Path) -> subprocess.Popen[bytes]:
    os.environ["ACCELERATE_USE_CPU"] = "true"
    parts = ("--student-model", "own_parts:tiny", "--data", "own_parts:few", "--batch-size", 20)
    return _python(
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", 2),
        *("--num_machines", 1, "--main_process_port", 0, "--mixed_precision", "no"),
        *("--dynamo_backend", "no", "-m", "spectralkd", "train", "demo", "--student"),
        *("--run", run, *parts, "--checkpoint-seconds", 1e6, "--epochs", 200),
    )


def signalled(folder: Path, who: int, number: signal.Signals) -> str:
    """Two processes; a signal to the launcher (0), the first or the second, then the rest."""
    run, whole = Run(folder / f"{who}-{number.name}"), Run(folder / "whole")
    if not whole.finished:
        _launch(whole.path).wait(300)
    launcher = _launch(run.path)
    end = time.monotonic() + 200
    while len(run.read_metrics()) < 3:
        time.sleep(0.05)
        if launcher.poll() is not None or time.monotonic() > end:
            return f"{who} {number.name}: it never began"
    main = holder(run.path)
    assert main is not None
    workers = [p for p in psutil.Process(launcher.pid).children(recursive=True)
               if "spectralkd" in p.cmdline()]  # fmt: skip
    workers.sort(key=lambda process: process.pid != main.process)
    [psutil.Process(launcher.pid), *workers][who].send_signal(number)
    while holder(run.path) or launcher.poll() is None:
        time.sleep(0.1)
        if time.monotonic() > end:
            return f"{who} {number.name}: it did not end"
    if not run.checkpoints() and not run.finished:
        return f"{who} {number.name}: nothing was saved"
    _launch(run.path).wait(300)
    same = run.finished and _equal(run, whole)
    return "" if same else f"{who} {number.name}: other numbers"


# --- damage ---------------------------------------------------------------------------------------


def damaged(folder: Path, name: str, how: str) -> str:
    """A stopped run with a damaged file: resumed exactly, or refused by the file's name."""
    place = folder / f"{name}-{how}"
    shutil.copytree(folder / "stopped", place)
    path = sorted(place.glob(name))[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    half = bytes(content[: len(content) // 2])
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"bit": content, "cut": half, "empty": b"", "null": b"null"}[how])
    before = path.read_bytes() if path.exists() else b""
    done = command_line(*_STOPPED, "--run", place.name, cwd=folder)
    if done.returncode == 0 and _equal(Run(place), Run(folder / "whole")):
        return ""
    kept = (path.read_bytes() if path.exists() else b"") == before
    named = path.name.removesuffix(".sha256") in done.stderr or place.name in done.stderr
    if done.returncode == 2 and kept and named:
        return ""
    return f"{name} {how}: status {done.returncode}, {done.stderr.strip()[-200:]}"


_STOPPED = ("train", "demo", "--student", "--epochs", 3, "--checkpoint-seconds", 0, *TINY)


def _stopped_run(folder: Path) -> None:
    command_line(*_STOPPED, "--run", "whole", cwd=folder)
    code = (
        "import os, signal, sys\n"
        "from spectralkd import cli\n"
        "from spectralkd.training.run_folder import Run\n"
        "append = Run.append_metrics\n"
        "def appended(self, line):\n"
        "    append(self, line)\n"
        "    if line['epoch'] == 2: os.kill(os.getpid(), signal.SIGTERM)\n"
        "Run.append_metrics = appended\n"
        "cli.main()\n"
    )
    _python("-c", code, *_STOPPED, "--run", folder / "stopped").wait(300)


# --- the table ------------------------------------------------------------------------------------


_FILES = ("config.json", "metrics.jsonl", "checkpoint-*.pt", "checkpoint-*.sha256")
_DAMAGES = ("bit", "cut", "empty", "null", "gone")
# To the launcher (0), the first process or the second.
_SIGNALS = (
    *((who, signal.SIGTERM) for who in range(3)),
    (0, signal.SIGKILL),
    (1, signal.SIGHUP),
    (2, signal.SIGINT),
)


def calls(folder: Path, seed: int) -> Iterator[str]:
    """Nonsense calls of the command line."""
    for call in nonsense_calls():
        yield complaint(call, folder)


def files(folder: Path, seed: int) -> Iterator[str]:
    """Damaged files of a stopped run."""
    _stopped_run(folder)
    for name in _FILES:
        for how in _DAMAGES:
            yield damaged(folder, name, how)


def both(folder: Path, seed: int) -> Iterator[str]:
    """Two processes on one folder, killed at random."""
    for number in range(20):
        yield compete(folder, seed + number)
        shutil.rmtree(folder / "run", ignore_errors=True)


def kill(folder: Path, seed: int) -> Iterator[str]:
    """One process, killed at random points."""
    save_file(create_model("wrn10_2", 15).state_dict(), folder / "t.safetensors")
    for method in ("kd", "spectral", "ft"):
        yield killed(folder, method, seed)


def several(folder: Path, seed: int) -> Iterator[str]:
    """Several processes, a signal to one of them."""
    for who, number in _SIGNALS:
        yield signalled(folder, who, number)


PARTS: dict[str, Callable[[Path, int], Iterator[str]]] = {
    part.__name__: part for part in (calls, files, both, kill, several)
}


def main(parts: Sequence[str], seed: int) -> int:
    """Attack, print what did not survive and the table; how many did not."""
    rows, lost = [], 0
    for part in parts:
        start, found = time.monotonic(), []
        with tempfile.TemporaryDirectory() as place:
            for words in PARTS[part](Path(place), seed):
                found.append(words)
                if words:
                    print(f"  {part}: {words}", flush=True)
        survived, seconds = found.count(""), f"{time.monotonic() - start:.0f}"
        what = (PARTS[part].__doc__ or "").rstrip(".")
        rows.append((what, str(len(found)), str(survived), seconds))
        print(*rows[-1], sep="\t", flush=True)
        lost += len(found) - survived
    print("\n" + format_table(("attack", "tried", "survived", "seconds"), rows))
    return lost


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    given = parser.parse_args()
    if unknown := {*given.parts} - {*PARTS}:
        parser.error(f"PART: expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    sys.exit(min(main(given.parts or list(PARTS), given.seed), 1))
