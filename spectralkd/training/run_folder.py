"""A run is a folder: its configuration, its metrics, its checkpoints and its result.

``config.json``             the full configuration, versions and device
``metrics.jsonl``           a line an epoch
``checkpoint-N.pt``         the last two states to resume from, for ``torch.load``
``checkpoint-N.pt.sha256``  their digests, as ``sha256sum`` writes them
``model.safetensors``       the trained network, once the run is finished
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
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from spectralkd import __version__

KEPT_CHECKPOINTS = 2


class Run:
    """The folder of one run.

    Args:
        path: of the folder; made where it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.config_file = self.path / "config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.weights_file = self.path / "model.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the trained network is there, which is written last."""
        return self.weights_file.is_file()

    # --- configuration ---

    def claim(self, config: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Write the configuration, or compare it with the one that is there.

        Args:
            config: nested dicts of JSON's types.
            free: names of fields that may differ.

        Raises:
            ValueError: the run was started with another configuration; names what differs.
        """
        config = json.loads(json.dumps(config))
        if not self.config_file.is_file():
            text = json.dumps(config | {"made_with": made_with()}, indent=2)
            write_whole(self.config_file, text.encode())
            return
        known = self.read_config()
        known.pop("made_with", None)
        if differing := differences(known, config, free):
            raise ValueError(
                f"{self.path}: this run was started with another configuration "
                f"({'; '.join(differing)}); choose another folder or the same settings"
            )

    def read_config(self) -> dict[str, Any]:
        """The configuration."""
        config: dict[str, Any] = json.loads(self.config_file.read_text())
        return config

    # --- metrics ---

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one epoch's line."""
        with _explained(self), self.metrics_file.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All complete lines; one that was cut off while it was written is left out."""
        if not self.metrics_file.is_file():
            return []
        lines = []
        for text in self.metrics_file.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return lines

    def keep_metrics(self, count: int) -> None:
        """Drop the lines after the first ``count``: their epochs will be run again."""
        lines = self.read_metrics()[:count]
        text = "".join(json.dumps(line) + "\n" for line in lines)
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
            # The digest first: a checkpoint without its own is passed over as damaged.
            write_whole(_sidecar(path), f"{_digest(payload)}  {path.name}\n".encode())
            write_whole(path, payload)
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            _remove(old)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest undamaged state, or None. A damaged one is named in a warning."""
        for path in reversed(self.checkpoints()):
            payload = path.read_bytes()
            if not _sidecar(path).is_file() or _digest(payload) not in _sidecar(path).read_text():
                warnings.warn(f"{path} is damaged; using the one before it", stacklevel=2)
                continue
            state: dict[str, Any] = torch.load(
                io.BytesIO(payload), map_location="cpu", weights_only=True
            )
            return state
        return None

    def checkpoints(self) -> list[Path]:
        """Files of checkpoints, the oldest first."""
        return sorted(self.path.glob("checkpoint-*.pt"))

    # --- the end ---

    def finish(self, model: nn.Module, metadata: dict[str, Any]) -> None:
        """Store the trained network with its metadata; remove the checkpoints."""
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        text = {key: json.dumps(value) for key, value in metadata.items()}
        with _explained(self):
            write_whole(self.weights_file, save(state, metadata=text))
        for path in self.checkpoints():
            _remove(path)


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


def differences(old: Any, new: Any, free: tuple[str, ...] = ()) -> list[str]:
    """In words, where two configurations of JSON's types differ, ``free`` fields aside."""
    return [
        f"{name} was {a!r}, now {b!r}"
        for name, a, b in _differences(old, json.loads(json.dumps(new)))
        if name.rpartition(".")[2] not in free
    ]


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _sidecar(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name + ".sha256")


def _remove(checkpoint: Path) -> None:
    checkpoint.unlink()
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
