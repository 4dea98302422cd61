"""A run is a folder: its configuration, its metrics, its checkpoints and its result.

``config.json``             the full configuration, versions and device
``metrics.jsonl``           a line an epoch
``checkpoint-N.pt``         the last two states to resume from, for ``torch.load``
``model.safetensors``       the trained network, once the run is finished
``*.sha256``                digests of these, as ``sha256sum`` writes them
``run.lock``                who works in the folder; see ``lock``

What is damaged is named with its remedy, and nothing that is sound is deleted to go on.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from spectralkd import __version__
from spectralkd.training.recipes import Recipe

KEPT_CHECKPOINTS = 2


class Run:
    """The folder of one run.

    Args:
        path: of the folder; ``claim`` makes it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._sound: list[Path] = []  # checkpoints read or written, the oldest first
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.weights_file = self.path / "model.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the trained network is there, which is written last.

        Raises:
            ValueError: it is, but damaged.
        """
        if not self.weights_file.is_file():
            return False
        versions = _version(self.weights_file, _sidecar(self.weights_file))
        if not _is_whole(self.weights_file, *versions):
            raise ValueError(
                f"{self.weights_file}: expected the trained network, got a damaged file; restore "
                f"it from a copy, or remove it to train the network again"
            )
        return True

    def progress(self) -> tuple[int, int]:
        """Epochs that are done, and those of the whole run, as far as it is known.

        Raises:
            ValueError: a damaged file, which is named.
        """
        lines, total = self.read_metrics(), self.read_config()["recipe"]["epochs"]
        return len(lines), lines[-1].get("epochs", total) if lines else total

    # --- configuration ---

    def compare(self, config: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Refuse a configuration that is not the one of the run in the folder, if any.

        Args:
            config: nested dicts of JSON's types.
            free: names of the recipe's fields that may differ.

        Raises:
            ValueError: the run was started with another configuration (names what differs), or
                its configuration is lost or damaged.
            TypeError: JSON cannot hold the configuration.
        """
        for name, value in config.items():
            if not is_json(value):
                raise TypeError(
                    f"{name}: expected numbers, words and lists, which JSON can hold, got {value!r}"
                )
        if not self.config_file.is_file():
            if left := [p for p in (self.weights_file, self.metrics_file, *self.checkpoints())
                        if p.is_file()]:  # fmt: skip
                raise ValueError(
                    f"{self.config_file}: expected the configuration of the run that left "
                    f"{left[0].name}, got no file; restore it, or choose another folder"
                )
            return
        known = self.read_config()
        known.pop("made_with", None)
        if differing := differences(known, config, free):
            raise ValueError(
                f"{self.path}: this run was started with another configuration "
                f"({'; '.join(differing)}); choose another folder or the same settings"
            )

    def claim(self, config: dict[str, Any], free: tuple[str, ...] = (), processes: int = 1) -> None:
        """Write the configuration, or ``compare`` it with the one that is there.

        Other versions, threads or devices than the run began with are named in a warning.

        Raises:
            ValueError: see ``compare``; or an unfinished run began with other ``processes``, whose
                sums and batch statistics are others.
        """
        self.compare(config, free)
        now = made_with() | {"processes": processes}
        if not self.config_file.is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps(config | {"made_with": now}, indent=2)
            with _explained(self):
                write_whole(self.config_file, text.encode())
            return
        began = self.read_config().get("made_with", {})
        changed = [
            f"{name} {began[name]}, now {value}"
            for name, value in now.items()
            if name in began and began[name] != value
        ]
        if not changed or self.finished:
            return
        if began.get("processes", processes) != processes:
            raise ValueError(
                f"{self.path}: expected the number of processes that this run began with, "
                f"{began['processes']}, got {processes}"
            )
        warnings.warn(
            f"{self.path} began with {'; '.join(changed)}: its numbers may differ in rounding from "
            f"those of a run that was not interrupted",
            stacklevel=2,
        )

    def read_config(self) -> dict[str, Any]:
        """The configuration.

        Raises:
            ValueError: the file is damaged, or no configuration of a run.
        """
        config = read_json(self.config_file)
        recipe = config.get("recipe")
        if not (isinstance(recipe, dict) and isinstance(recipe.get("epochs"), int)):
            raise ValueError(
                f"{self.config_file}: expected the configuration of a run, with its recipe and "
                f"epochs, got {', '.join(config) or 'nothing'}"
            )
        return config

    # --- metrics ---

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one epoch's line."""
        with _explained(self), self.metrics_file.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All complete lines; a last one that was cut off while it was written is left out.

        Raises:
            ValueError: another line cannot be read; names it.
        """
        if not self.metrics_file.is_file():
            return []
        *texts, rest = self.metrics_file.read_bytes().split(b"\n")
        lines = []
        for number, text in enumerate([*texts, rest], start=1):
            if not text.strip():
                continue
            try:
                lines.append(_object(text))
            except ValueError as error:
                if number > len(texts):
                    break
                raise ValueError(
                    f"{self.metrics_file}: expected JSON in line {number}, got {text[:40]!r}; "
                    f"restore the line, or remove the file to train from the start"
                ) from error
        return lines

    def last_metrics(self) -> dict[str, Any]:
        """The last line.

        Raises:
            ValueError: there is none, or one is damaged.
        """
        if not (lines := self.read_metrics()):
            raise ValueError(f"{self.metrics_file}: expected a line an epoch, got none")
        return lines[-1]

    def metrics_digest(self, count: int) -> str:
        """SHA-256 of the first ``count`` lines, for ``keep_metrics``."""
        return _digest(json.dumps(self.read_metrics()[:count]).encode())

    def keep_metrics(self, count: int, digest: str | None = None) -> None:
        """Drop the lines after the first ``count``: their epochs will be run again.

        Raises:
            ValueError: there are fewer, or they are not those of the ``digest``, if given.
        """
        lines = self.read_metrics()
        if len(lines) < count:
            raise ValueError(
                f"{self.metrics_file}: expected {count} lines, as many as the checkpoint has "
                f"epochs, got {len(lines)}; restore them, or remove the checkpoints to train from "
                f"the start"
            )
        if digest and digest != self.metrics_digest(count):
            raise ValueError(
                f"{self.metrics_file}: expected the {count} lines that the checkpoint was saved "
                f"with, got others; restore them from a copy"
            )
        text = "".join(json.dumps(line) + "\n" for line in lines[:count])
        with _explained(self):
            write_whole(self.metrics_file, text.encode())

    # --- checkpoints ---

    def save_checkpoint(self, number: int, state: dict[str, Any]) -> None:
        """Store a state for ``load_checkpoint``; keep the one before it.

        Args:
            number: grows from one checkpoint to the next.
            state: tensors and plain values.

        Raises:
            OSError: the file cannot be written; names the last good checkpoint, which stays.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload, path = buffer.getvalue(), self.path / f"checkpoint-{number:09d}.pt"
        with _explained(self):
            _write_with_digest(path, payload)
        # Others are damaged, as far as this run knows, and stay until two sound ones replace them.
        self._sound = [*(p for p in self._sound if p != path), path][-KEPT_CHECKPOINTS:]
        if len(self._sound) == KEPT_CHECKPOINTS:
            for old in self.checkpoints():
                if old < min(self._sound):
                    _remove(old)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest undamaged state; None for a new run. A damaged one is named in a warning.

        Raises:
            ValueError: all are damaged.
        """
        for path in reversed(self.checkpoints()):
            payload = path.read_bytes()
            if not _sidecar(path).is_file() or _digest(payload) not in _sidecar(path).read_text():
                warnings.warn(f"{path} is damaged; using the one before it", stacklevel=2)
                continue
            state: dict[str, Any] = torch.load(
                io.BytesIO(payload), map_location="cpu", weights_only=True
            )
            self._sound = [path]
            return state
        if damaged := [path.name for path in self.checkpoints()]:
            raise ValueError(
                f"{self.path}: expected an undamaged checkpoint, got {', '.join(damaged)}; restore "
                f"one from a copy, or remove them to train from the start"
            )
        return None

    def checkpoints(self) -> list[Path]:
        """Files of checkpoints, the oldest first."""
        return sorted(self.path.glob(f"checkpoint-{'[0-9]' * 9}.pt"))

    # --- the end ---

    def finish(self, model: nn.Module, metadata: dict[str, Any]) -> None:
        """Store the trained network with its metadata; remove the checkpoints."""
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        text = {key: json.dumps(value) for key, value in metadata.items()}
        with _explained(self):
            _write_with_digest(self.weights_file, save(state, metadata=text))
        for path in self.path.glob("checkpoint-*"):
            if path.suffix in (".pt", ".sha256", ".part"):  # a killed process leaves such parts
                path.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _digest(Path(path).read_bytes())


def made_with() -> dict[str, Any]:
    """Versions and device, as part of every result."""
    cuda = torch.cuda.is_available()
    return {
        "spectralkd": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
    }


def differences(old: dict[str, Any], new: dict[str, Any], free: tuple[str, ...] = ()) -> list[str]:
    """In words, where two configurations of JSON's types differ, ``free`` recipe fields aside.

    Fields of the recipe that came with a later version had the value of their default before. A
    teacher's digest, and the defaults of a method's options, are compared where both have them.
    """
    old, new = (json.loads(json.dumps(config)) for config in (old, new))
    ignored = {f"recipe.{name}" for name in free}
    if not ("teacher_sha256" in old and "teacher_sha256" in new):
        ignored.add("teacher_sha256")
    defaults = [config.get("defaults", {}) for config in (old, new)]
    ignored |= {f"defaults.{name}" for name in {*defaults[0]} ^ {*defaults[1]}} | {"defaults"}
    if isinstance(recipe := old.get("recipe"), dict):
        later = {*new.get("recipe", ())} - {*recipe}
        recipe |= {name: value for name, value in asdict(Recipe()).items() if name in later}
    return [
        f"{name} was {a!r}, now {b!r}"
        for name, a, b in _differences(old, new)
        if name not in ignored
    ]


def is_json(value: object) -> bool:
    """Whether a file of JSON can hold a value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def find_runs(folder: str | Path) -> list[Path]:
    """Folders of runs in a folder and in its folders, by name."""
    found = {
        path.parent
        for name in ("config.json", "launch.json")
        for path in (*Path(folder).glob(f"*/{name}"), *Path(folder).glob(f"*/*/{name}"))
    }
    return sorted(found)


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        ValueError: the file is damaged or holds something else; names it.
    """
    try:
        return _object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got a damaged file: {error}") from error


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, got {found!r:.40}")
    return found


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _version(*paths: Path) -> tuple[int, ...]:
    """What changes when one of several files is written, or removed."""
    found = [path.stat() for path in paths if path.is_file()]
    return tuple(n for about in found for n in (about.st_ino, about.st_size, about.st_mtime_ns))


@lru_cache(maxsize=1024)
def _is_whole(weights: Path, *version: int) -> bool:
    """Whether a file of weights has its digest, read once for each version of the two files."""
    if _sidecar(weights).is_file():
        return file_digest(weights) in _sidecar(weights).read_text()
    try:  # early runs have no digest; a file that is cut does not open
        with safe_open(weights, "pt"):
            return True
    except SafetensorError:
        return False


def _write_with_digest(path: Path, payload: bytes) -> None:
    # The digest first: a file without its own counts as damaged.
    write_whole(_sidecar(path), f"{_digest(payload)}  {path.name}\n".encode())
    write_whole(path, payload)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _remove(checkpoint: Path) -> None:
    checkpoint.unlink(missing_ok=True)
    _sidecar(checkpoint).unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: it is either what it was or all of the new content."""
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    """Where a file cannot be written, name the last good checkpoint."""
    try:
        yield
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        last = next(reversed(run.checkpoints()), None)
        safe = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        raise OSError(error.errno, f"{run.path} cannot be written: {why}; {safe}") from error


def _differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            yield f"{prefix}{name}", a, b
