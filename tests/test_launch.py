"""Does a launched run live by itself: found, watched, stopped, taken up again?"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from spectralkd.cli.app import app
from spectralkd.models import create_model
from spectralkd.training import api, launch
from spectralkd.training.api import train
from spectralkd.training.launch import (
    Launch,
    cautions,
    launch_command,
    obstacles,
    resume,
    run_state,
    start,
    stop,
)
from spectralkd.training.lock import locked
from spectralkd.training.recipes import get_recipe
from spectralkd.training.run_folder import Run, find_runs
from spectralkd.training.together import Stopped

TINY: dict[str, Any] = {"train_images": 200, "validation_images": 60, "batch_size": 20}


def tiny(run: Path, epochs: int, task: launch.Task = "student") -> Launch:
    return Launch(run, get_recipe("demo", epochs=epochs, **TINY), task)


def until(path: Path, status: str, seconds: float = 120) -> launch.RunState:
    end = time.monotonic() + seconds
    while (state := run_state(path)).status != status:
        assert time.monotonic() < end, state
        time.sleep(0.2)
    return state


def test_the_command_asks_for_the_very_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = get_recipe("c", "heo", nesterov=False, drops=(0.3, 0.6), lr=0.05, root="/data")
    words = launch_command(Launch(Path("r"), recipe, method="at", teacher=Path("t")))
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        api, "distill_together", lambda *args, **_: asked.update(args=args) or [])  # fmt: skip
    done = CliRunner().invoke(app, words[words.index("distill") :])
    assert done.exit_code == 0, done.output
    (student,), teacher = asked["args"]
    assert (student.recipe, student.run, student.method) == (recipe, Path("r"), "at")
    assert teacher == "t"


def test_several_processes_meet_at_the_port() -> None:
    words = launch_command(Launch(Path("r"), get_recipe("c"), processes=4, port=29511))
    assert "--multi_gpu" in words
    assert words[words.index("--main_process_port") + 1] == "29511"
    assert words[words.index("--num_processes") + 1] == "4"


def test_what_would_go_wrong_is_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert obstacles(tiny(tmp_path / "new", 1)) == []
    folder = get_recipe("imagenet", root=str(tmp_path / "none"))
    assert "root: expected the folder of the images" in obstacles(Launch(tmp_path / "i", folder))[0]
    taught = Launch(tmp_path / "t", get_recipe("c"), teacher=tmp_path)
    assert "teacher: expected a finished run or a file" in obstacles(taught)[0]
    (tmp_path / "file").touch()
    assert "expected a folder, got the file" in obstacles(tiny(tmp_path / "file", 1))[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
        both = Launch(tmp_path / "p", get_recipe("demo"), processes=2, port=port)
        assert obstacles(both) == [f"port: {port} is in use by another program; choose another"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert "expected at most 1, one for each GPU, got 2" in obstacles(both)[0]
    with pytest.raises(ValueError, match="one for each GPU"):
        start(both)


def test_a_recipe_that_the_command_line_cannot_say_is_not_started(tmp_path: Path) -> None:
    (says,) = obstacles(Launch(tmp_path / "r", get_recipe("demo", drops=()), "student"))
    assert says == "drops: expected at least one, got none; drop_factor 1 keeps the rate"


def test_the_length_of_a_run_counts_all_its_phases(tmp_path: Path) -> None:
    recipe = get_recipe("demo", epochs=2, teacher_model="wrn10_1", **TINY)
    options = {"paraphraser_epochs": 3}
    run = api.distill(recipe, tmp_path / "ft", method="ft", options=options, progress=False)
    state = run_state(run.path)
    assert (state.epochs, state.total) == (5, 5)


def test_what_one_should_know_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = cautions(Launch(tmp_path / "x", get_recipe("c", root=str(tmp_path))))
    assert said[0].startswith("No GPU was found: 200 epochs of setup c")
    assert said[1] == f"cifar100 is not in {tmp_path}: it will be downloaded there."
    assert said[2] == "No teacher is given: it is trained first."
    assert cautions(tiny(tmp_path, 1)) == []
    own = cautions(Launch(tmp_path / "x", get_recipe("c", data="cifar10h:load")))
    assert not any("downloaded" in words for words in own)


def test_a_run_is_started_stopped_resumed_and_ends_as_one_that_was_not(
    tmp_path: Path, one_thread: None
) -> None:
    epochs = 6
    asked = tiny(tmp_path / "runs" / "one", epochs)
    start(asked)
    assert run_state(asked.run).status == "running"
    assert "is in use: it is running" in obstacles(asked)[0]
    end = time.monotonic() + 120
    while not Run(asked.run).read_metrics():
        assert run_state(asked.run).status == "running"
        assert time.monotonic() < end
        time.sleep(0.1)
    stop(asked.run)
    state = until(asked.run, "stopped")
    assert state.epochs < epochs
    assert state.total == epochs
    log = (asked.run / "launch.log").read_text()
    assert shlex.join(launch_command(asked)) in log
    assert "stopped; the same command resumes it" in log
    assert list(Run(asked.run).checkpoints())  # no step was lost

    changed = tiny(asked.run, epochs + 1)
    assert f"recipe.epochs was {epochs}, now {epochs + 1}" in obstacles(changed)[0]
    resume(asked.run)
    assert until(asked.run, "finished").epochs == epochs
    with pytest.raises(ValueError, match="is finished"):
        resume(asked.run)

    plain = train(asked.recipe, tmp_path / "runs" / "two", role="student", progress=False)
    drop = "images_per_second"
    lines = [[{k: v for k, v in line.items() if k != drop} for line in run.read_metrics()]
             for run in (Run(asked.run), plain)]  # fmt: skip
    assert [line["top1_error"] for line in lines[0]] == [line["top1_error"] for line in lines[1]]
    assert find_runs(tmp_path / "runs") == [asked.run, plain.path]


def test_a_run_of_other_options_is_an_obstacle(tmp_path: Path) -> None:
    recipe = get_recipe("demo", teacher_model="wrn10_1", **TINY)
    weights = tmp_path / "t.safetensors"
    save_file(create_model("wrn10_1", 15).state_dict(), weights)
    settings: dict[str, Any] = {"method": "kd", "teacher": weights}
    options = {"weight": 0.5}
    with pytest.raises(Stopped):
        api.distill(recipe, tmp_path / "r", **settings, options=options, stop=lambda: True)
    same = Launch(tmp_path / "r", recipe, **settings, options=options)
    assert obstacles(same) == []
    (found,) = obstacles(replace(same, options={"temperature": 2.0}))
    assert "options.temperature was None, now 2.0; options.weight was 0.5, now None" in found
    (found,) = obstacles(replace(same, method="spectral", options={}))
    assert "method was 'kd', now 'spectral'" in found
    unknown, found = obstacles(replace(same, method="spektral", options={}))
    assert "method: expected one of spectral" in unknown
    assert "method was 'kd', now 'spektral'" in found


def test_it_outlives_who_started_it(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from spectralkd.training.launch import Launch, start\n"
        "from spectralkd.training.recipes import get_recipe\n"
        f"start(Launch(Path({str(tmp_path / 'r')!r}), get_recipe('demo', epochs=50, **{TINY}),"
        " 'student'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert run_state(tmp_path / "r").status == "running"
    end = time.monotonic() + 120
    while not Run(tmp_path / "r").read_metrics():
        assert run_state(tmp_path / "r").status == "running"
        assert time.monotonic() < end
        time.sleep(0.1)
    stop(tmp_path / "r")
    until(tmp_path / "r", "stopped")


def test_a_failed_launch_says_why(tmp_path: Path) -> None:
    asked = Launch(tmp_path / "r", get_recipe("demo", student_model="wrn11_1"), "student")
    start(asked)
    words = until(asked.run, "failed").last_words
    assert "model 'wrn11_1'" in words


def test_runs_from_the_command_line_are_shown_and_resumed_there(tmp_path: Path) -> None:
    run = train(get_recipe("demo", epochs=1, **TINY), tmp_path / "r", role="student",
                progress=False)  # fmt: skip
    assert run_state(run.path) == ("finished", 1, 1, "")
    with pytest.raises(FileNotFoundError, match=r"has no launch\.json"):
        resume(run.path)
    with pytest.raises(ValueError, match="expected a running run, .* is finished"):
        stop(run.path)


# --- whoever else is at work ----------------------------------------------------------------------


def test_a_live_run_is_known_and_stopped_however_it_was_started(tmp_path: Path) -> None:
    code = "from spectralkd.training.lock import locked; import sys, time\n"
    code += "with locked(sys.argv[1], stops=True): print('ready', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(tmp_path / "r")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "ready\n"
        Run(tmp_path / "r").claim({"role": "student", "recipe": vars(tiny(tmp_path, 3).recipe)})
        shutil.copytree(tmp_path / "r", tmp_path / "copy")
        assert run_state(tmp_path / "r") == ("running", 0, 3, "")
        assert run_state(tmp_path / "copy").status == "stopped"
        assert "is in use: it is running" in obstacles(tiny(tmp_path / "r", 3))[0]
        with pytest.raises(ValueError, match="expected a running run, .*copy is stopped"):
            stop(tmp_path / "copy")
        assert other.poll() is None
        stop(tmp_path / "r")
        assert other.wait(60) == -signal.SIGTERM
    assert run_state(tmp_path / "r").status == "stopped"


def test_a_kernel_that_trains_is_not_ended(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ValueError, match=f"runs within process {os.getpid()}"):
        stop(tmp_path)


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a launch runs instead of training, for seconds."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(launch, "launch_command", lambda _: command)
    return command


def test_a_copy_of_a_launched_folder_is_another_run_and_a_renamed_one_the_same(
    tmp_path: Path, sleeper: list[str]
) -> None:
    start(tiny(tmp_path / "r", 3))
    shutil.copytree(tmp_path / "r", tmp_path / "copy")
    (tmp_path / "r").rename(tmp_path / "renamed")
    assert run_state(tmp_path / "renamed").status == "running"
    assert run_state(tmp_path / "copy").status == "failed"
    with pytest.raises(ValueError, match="expected a running run"):
        stop(tmp_path / "copy")
    with pytest.raises(ValueError, match="is running"):
        resume(tmp_path / "renamed")
    stop(tmp_path / "renamed")
    until(tmp_path / "renamed", "stopped")
    resume(tmp_path / "renamed")
    assert until(tmp_path / "renamed", "running")
    stop(tmp_path / "renamed")
    until(tmp_path / "renamed", "stopped")
    assert not (tmp_path / "r").exists()


def test_two_who_start_a_run_at_once_start_one(tmp_path: Path, sleeper: list[str]) -> None:
    asked, outcomes = tiny(tmp_path / "r", 3), []
    both = threading.Barrier(2)

    def go() -> None:
        both.wait()
        try:
            start(asked)
            outcomes.append("started")
        except ValueError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome == "started" for outcome in outcomes) == 1
    assert sum("is in use" in outcome for outcome in outcomes) == 1
    stop(asked.run)


def test_no_command_is_taken_from_a_folder(tmp_path: Path, sleeper: list[str]) -> None:
    recipe = get_recipe("demo", epochs=1, student_model="own_parts:tiny", **TINY)
    asked = Launch(tmp_path / "r", recipe, "student")
    start(asked)
    stop(asked.run)
    until(asked.run, "stopped")
    shutil.copytree(asked.run, tmp_path / "received")
    with pytest.raises(ValueError, match="was launched elsewhere and would import own_parts:tiny"):
        resume(tmp_path / "received")
    about = json.loads((asked.run / "launch.json").read_text())
    for evil in (
        {"command": ["touch", str(tmp_path / "touched")], "process": 1, "created": 0},
        about | {"launch": about["launch"] | {"processes": "2; touch touched"}},
        about | {"launch": about["launch"] | {"recipe": {"epochs": "$(touch touched)"}}},
    ):
        (asked.run / "launch.json").write_text(json.dumps(evil))
        with pytest.raises(ValueError, match=r"launch\.json: expected the settings of a launch"):
            resume(asked.run)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["config.json", "launch.json", "metrics.jsonl"])
@pytest.mark.parametrize("text", ["", "null", "{}", '{"model_type": "bert"}', "\0", "[[]]\n{}\n"])
def test_foreign_files_are_passed_over_with_a_word(tmp_path: Path, name: str, text: str) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / name).write_text(text)
    if name == "metrics.jsonl":
        recipe = {"recipe": vars(get_recipe("demo"))}
        (place / "config.json").write_text(json.dumps(recipe))
    assert find_runs(tmp_path) == [place]
    state = run_state(place)
    readable = {"launch.json": ["{}", '{"model_type": "bert"}']}.get(name, [])
    if name == "metrics.jsonl":  # a last line that is cut off is left out
        readable = ["", "null", "{}", '{"model_type": "bert"}', "\0"]
    assert (state.status != "unreadable") == (text in readable)
    if state.status == "unreadable":
        assert f"{name}: expected" in state.last_words
        assert state.last_words in obstacles(tiny(place, 1))[0]
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{name}|config.json|no launch.js"):
        resume(place)
    with pytest.raises(ValueError, match="expected a running run|expected JSON"):
        stop(place)
