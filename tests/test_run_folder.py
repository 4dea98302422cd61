"""Does a run's folder lose nothing, and say what is wrong with it?"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors import safe_open
from torch import nn

from spectralkd.reproduction.paper_tables import TABLE_2, results_table
from spectralkd.training.lock import Holder, InUse, began, holder, locked, process_of
from spectralkd.training.recipes import get_recipe
from spectralkd.training.run_folder import Run, file_digest


def test_metrics_survive_a_line_cut_off(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.read_metrics() == []
    for epoch in range(3):
        run.append_metrics({"epoch": epoch})
    with run.metrics_file.open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert [line["epoch"] for line in run.read_metrics()] == [0, 1, 2]
    run.keep_metrics(2)
    run.append_metrics({"epoch": 2})
    assert run.metrics_file.read_text().count("\n") == 3


def test_two_checkpoints_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.load_checkpoint() is None
    for number in (1, 10, 9_000):
        run.save_checkpoint(number, {"number": number, "weights": torch.ones(3)})
    assert [path.name for path in run.checkpoints()] == [
        "checkpoint-000000010.pt",
        "checkpoint-000009000.pt",
    ]
    state = run.load_checkpoint()
    assert state is not None
    assert state["number"] == 9_000
    newest = run.checkpoints()[-1]
    assert torch.load(newest, weights_only=True)["number"] == 9_000
    digest, name = newest.with_name(newest.name + ".sha256").read_text().split()
    assert (digest, name) == (file_digest(newest), newest.name)
    assert len(list(tmp_path.iterdir())) == 4


def test_an_unreadable_line_is_named_and_a_blank_one_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.metrics_file.write_text('{"epoch": 1}\n\n{"epoch": 2}\n{"epoch": 3}')
    assert [line["epoch"] for line in run.read_metrics()] == [1, 2, 3]
    run.metrics_file.write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    for action in (run.read_metrics, run.last_metrics, lambda: run.keep_metrics(1)):
        with pytest.raises(ValueError, match=r"metrics\.jsonl: expected JSON in line 2"):
            action()
    assert run.metrics_file.read_text().count("\n") == 3


def test_lost_lines_are_missed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(ValueError, match="expected a line an epoch, got none"):
        run.last_metrics()
    run.append_metrics({"epoch": 1})
    with pytest.raises(ValueError, match="expected 2 lines, as many as the checkpoint has epochs"):
        run.keep_metrics(2)
    assert run.read_metrics() == [{"epoch": 1}]
    digest = run.metrics_digest(1)
    run.keep_metrics(1, digest)
    run.metrics_file.write_text('{"epoch": 9}\n')
    with pytest.raises(ValueError, match="expected the 1 lines that the checkpoint was saved with"):
        run.keep_metrics(1, digest)
    assert run.read_metrics() == [{"epoch": 9}]


def test_no_new_checkpoint_gives_way_to_damaged_ones(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for number in (905, 909, 910):
        run.save_checkpoint(number, {"number": number})
    for path in run.checkpoints():
        path.write_bytes(b"rubbish")
    wrong = pytest.raises(ValueError, match="expected an undamaged checkpoint, got checkpoint-")
    with wrong, pytest.warns(UserWarning, match="is damaged"):
        Run(tmp_path).load_checkpoint()
    run = Run(tmp_path)
    for number in (1, 2, 3):
        run.save_checkpoint(number, {"number": number})
        assert run.checkpoints()[min(number, 2) - 1].name == f"checkpoint-00000000{number}.pt"
    with pytest.warns(UserWarning, match="is damaged"):
        assert Run(tmp_path).load_checkpoint() == {"number": 3}


def test_a_sound_checkpoint_stays_until_two_newer_ones_are_sound(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for number in (5, 9):
        run.save_checkpoint(number, {"number": number})
    run.checkpoints()[-1].write_bytes(b"rubbish")
    run = Run(tmp_path)
    with pytest.warns(UserWarning, match="is damaged"):
        assert run.load_checkpoint() == {"number": 5}
    run.save_checkpoint(10, {"number": 10})
    assert [path.name[-5:-3] for path in run.checkpoints()] == ["05", "09", "10"]
    run.save_checkpoint(11, {"number": 11})
    assert [path.name[-5:-3] for path in run.checkpoints()] == ["10", "11"]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path: Path, damage: str) -> None:
    run = Run(tmp_path)
    for number in (1, 2):
        run.save_checkpoint(number, {"number": number, "weights": torch.randn(1000)})
    newest = run.checkpoints()[-1]
    content = bytearray(newest.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-100], "bit": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="checkpoint-000000002.pt is damaged"):
        state = run.load_checkpoint()
    assert state is not None
    assert state["number"] == 1


def test_a_full_disk_says_so_and_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch) -> None:
    run = Run(tmp_path)
    run.save_checkpoint(1, {"number": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"the disk is full; .* is .*checkpoint-000000001\.pt"):
            run.save_checkpoint(2, {"number": 2})
    assert [path.name for path in run.checkpoints()] == ["checkpoint-000000001.pt"]
    assert not list(tmp_path.glob("*.part"))
    assert run.load_checkpoint() == {"number": 1}


def test_another_configuration_is_refused_by_field(tmp_path: Path) -> None:
    run = Run(tmp_path)
    recipe = {"epochs": 1, "lr": 0.1, "root": "x", "drops": (0.5,)}
    run.claim({"a": 1, "recipe": recipe})
    run.claim({"a": 1, "recipe": recipe | {"root": "y"}}, free=("root",))
    with pytest.raises(ValueError, match=r"\(a was 1, now None; recipe.lr was 0.1, now 0.2\)"):
        run.claim({"recipe": recipe | {"lr": 0.2}})
    config = run.read_config()
    assert config["made_with"]["torch"] == torch.__version__
    own = Run(tmp_path / "own")  # an option of a method's that is called as a free field
    own.claim({"options": {"root": 1}, "recipe": recipe}, free=("root",))
    with pytest.raises(ValueError, match=r"\(options.root was 1, now 2\)"):
        own.claim({"options": {"root": 2}, "recipe": recipe}, free=("root",))


def test_a_run_of_an_older_version_is_the_same_where_new_fields_have_their_defaults(
    tmp_path: Path,
) -> None:
    new = {"recipe": vars(get_recipe("demo"))}
    old = {k: v for k, v in new["recipe"].items() if k not in ("holdout", "nesterov")}
    (tmp_path / "config.json").write_text(json.dumps({"recipe": old}))
    with pytest.raises(ValueError, match=r"\(recipe.nesterov was False, now True\)"):
        Run(tmp_path).claim(new)
    Run(tmp_path).claim({"recipe": new["recipe"] | {"nesterov": False}})


def test_what_a_view_asks_for_makes_no_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "none")
    assert not run.finished
    assert (run.read_metrics(), run.checkpoints(), holder(run.path)) == ([], [], None)
    run.compare({"recipe": vars(get_recipe("demo"))})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["null", "{}", "[1]", "{", "", '{"model_type": "bert"}'])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: expected"):
        Run(tmp_path).read_config()
    with pytest.raises(ValueError, match=r"config\.json: expected"):
        Run(tmp_path).claim({"recipe": {"epochs": 1}})


def test_a_lost_configuration_is_not_written_anew(tmp_path: Path) -> None:
    record(tmp_path, 20.0)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="expected the configuration of the run that left model"):
        Run(tmp_path).claim({"recipe": {"epochs": 1}})
    assert not (tmp_path / "config.json").exists()


def test_a_finished_run_holds_its_network_and_what_is_known_of_it(tmp_path: Path) -> None:
    run, model = Run(tmp_path), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    run.save_checkpoint(1, {"number": 1})
    (tmp_path / "checkpoint-000000002.pt.part").touch()  # of a process killed while it wrote
    assert not run.finished
    run.finish(model, {"result": {"top1_error": 12.5}})
    assert run.finished
    assert list(tmp_path.glob("checkpoint-*")) == []
    with safe_open(run.weights_file, "pt") as file:
        assert json.loads(file.metadata()["result"]) == {"top1_error": 12.5}
        assert torch.equal(file.get_tensor("weight"), model.weight)


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_a_damaged_network_is_named_and_not_finished(tmp_path: Path, damage: str) -> None:
    run = Run(tmp_path)
    run.finish(nn.Linear(30, 30), {})
    content = bytearray(run.weights_file.read_bytes())
    content[-9] ^= 1
    run.weights_file.write_bytes({"cut": content[:-8], "bit": content}[damage])
    with pytest.raises(ValueError, match=r"model\.safetensors: expected the trained network"):
        Run(tmp_path).finished  # noqa: B018
    digest = run.weights_file.with_name("model.safetensors.sha256")
    digest.unlink()  # early runs had none: what opens counts as whole
    if damage == "cut":
        with pytest.raises(ValueError, match="got a damaged file"):
            Run(tmp_path).finished  # noqa: B018
    else:
        assert Run(tmp_path).finished


# --- whoever else is at work ----------------------------------------------------------------------


def in_another_process(code: str) -> subprocess.Popen[str]:
    """Python code that imports the lock and prints a line when it has come so far."""
    lines = "import os, sys, time\nfrom spectralkd.training.lock import locked\n" + code
    process = subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_folder_is_locked_until_its_process_ends_however(tmp_path: Path) -> None:
    place = tmp_path / "run"
    other = in_another_process(
        f"with locked({str(place)!r}): print('ready', flush=True); time.sleep(600)"
    )
    known = holder(place)
    assert known is not None
    assert process_of(known) == psutil.Process(other.pid)
    said = f"run: {place} is in use by process {other.pid} on {platform.node()}"
    with pytest.raises(InUse, match=re.escape(said)), locked(place):
        pass
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    place.rename(tmp_path / "renamed")
    assert holder(copy) is None
    assert holder(tmp_path / "renamed") == known
    other.kill()
    other.wait()
    assert holder(tmp_path / "renamed") is None
    with locked(tmp_path / "renamed"), pytest.raises(InUse), locked(tmp_path / "renamed"):
        pass
    assert holder(tmp_path / "renamed") is None


def test_a_forked_worker_does_not_outlive_the_run_with_its_lock(tmp_path: Path) -> None:
    other = in_another_process(
        f"with locked({str(tmp_path)!r}):\n"
        "    if not os.fork(): print('ready', flush=True)\n"  # the child, once it runs
        "    time.sleep(20)"
    )
    assert holder(tmp_path) is not None
    children = psutil.Process(other.pid).children()
    other.kill()
    other.wait()
    assert holder(tmp_path) is None
    for child in children:
        child.kill()


@pytest.mark.parametrize("why", ["a file", "no locks"])
def test_a_folder_that_cannot_be_locked_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    place = tmp_path / "run"
    if why == "a file":
        place.touch()
    else:  # a network file system

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)
    said = {"a file": "File exists", "no locks": os.strerror(errno.ENOLCK)}[why]
    words = f"run: expected a folder that can be written to and locked, got {str(place)!r}: {said}"
    with pytest.raises(ValueError, match=re.escape(words)), locked(place):
        pass
    assert holder(place) is None


def test_a_clock_that_is_set_hides_no_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path):
        known = holder(tmp_path)
        assert known is not None
        start = psutil.boot_time() - 3600  # the time of the start moves with the clock
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: start)
        assert process_of(known) == psutil.Process()


def test_another_process_of_the_same_number_is_not_the_holder() -> None:
    me = Holder(platform.node(), os.getpid(), began(psutil.Process()))
    assert process_of(me) is not None
    assert process_of(me._replace(created=me.created - 100)) is None
    assert process_of(me._replace(machine="elsewhere")) is None
    assert process_of(me._replace(process=-1)) is None


# --- the table ------------------------------------------------------------------------------------


def record(place: Path, error: float | None, **config: object) -> Path:
    """A run's folder as training leaves it."""
    run = Run(place)
    setup, preset = config.pop("setup", "c"), config.pop("preset", "paper")
    changes = config.pop("changes", {})
    recipe = vars(get_recipe(setup, preset, **changes))
    method = config.pop("method", "spectral")
    plain = {"alpha": recipe["alpha"]} if method == "spectral" else {}
    run.claim(
        {
            "role": config.pop("role", "distill"),
            "network": recipe["student_model"],
            "method": method,
            "options": plain | config,
            "recipe": recipe,
        }
    )
    run.append_metrics({"epoch": 1, "top1_error": error or 90.0, "top5_error": 5.0})
    if error is not None:
        run.finish(nn.Linear(1, 1), {})
    return place


def test_table_2_from_runs_has_medians_spreads_and_the_papers_row(tmp_path: Path) -> None:
    paths = [
        record(tmp_path / f"s{seed}", error, changes={"seed": seed})
        for seed, error in enumerate((24.9, 24.1, 24.4))
    ]
    paths.append(record(tmp_path / "o", 24.6, method="overhaul", preset="heo", changes={"seed": 1}))
    paths.append(record(tmp_path / "short", 60.0, changes={"epochs": 3}))
    paths.append(record(tmp_path / "option", 24.0, gamma=0.02))
    paths.append(record(tmp_path / "other", 50.0, changes={"student_model": "wrn10_1"}))
    paths.append(record(tmp_path / "teacher", 21.3, method="baseline", role="teacher"))
    paths.append(record(tmp_path / "running", None, changes={"seed": 9}))
    text = results_table(paths)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[2] == "c teacher paper none 21.09 21.30 21.30 to 21.30 5.00 1"
    assert rows[3] == "c overhaul heo none 24.27 (code 24.08) 24.60 24.60 to 24.60 5.00 1"
    assert rows[4] == "c spectral paper none 24.42 24.40 24.10 to 24.90 5.00 3"
    assert rows[5] == "c spectral paper epochs=3 24.42 60.00 60.00 to 60.00 5.00 1"
    assert rows[6] == "c spectral paper gamma=0.02 24.42 24.00 24.00 to 24.00 5.00 1"
    assert rows[7] == "c spectral paper student_model=wrn10_1 – 50.00 50.00 to 50.00 5.00 1"
    assert rows[-1] == f"Unfinished: {tmp_path / 'running'} (1 epochs of 200)"
    assert "90.00" not in text
    markdown = results_table(paths, "markdown").splitlines()
    assert markdown[1].startswith("|:--")
    assert all(line.count("|") == 10 for line in markdown[:8])
    assert re.search(r"<td[^>]*> *24.40</td>", results_table(paths, "html"))
    marked = record(tmp_path / "<b>x", None, changes={"seed": 8})
    assert "&lt;b&gt;x" in results_table([*paths, marked], "html")


def test_table_3_and_the_papers_numbers(tmp_path: Path) -> None:
    text = results_table([record(tmp_path, 27.6, setup="imagenet")])
    assert "27.49 / 8.99" in text
    assert all(len(row) == 6 for row in TABLE_2.values())
    # The text: "our method outperforms in five out of the six setups".
    rivals = [
        min(TABLE_2[m][i] for m in TABLE_2 if m not in ("teacher", "spectral")) for i in range(6)
    ]
    assert sum(ours < best for ours, best in zip(TABLE_2["spectral"], rivals, strict=True)) == 5


def test_what_is_no_run_or_counts_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="runs: expected folders of runs"):
        results_table([tmp_path])
    twins = [record(tmp_path / name, 24.0) for name in ("one", "two")]
    with pytest.raises(ValueError, match=r"two repeats seed 0 of c spectral paper"):
        results_table(twins)
