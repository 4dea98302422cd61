"""One process at a time works in a run's folder (POSIX systems).

The operating system holds the lock, on the open file ``run.lock``, and releases it however its
process ends: no lock is ever stale, and a copy of the folder is not locked. The file says who
holds it: ``machine``, ``process``, ``created``, when that process began, in seconds from the
machine's own start, and whether it ``stops`` on SIGTERM with its state saved.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

LOCK = "run.lock"
# ``holder`` takes the lock for a moment to see whether it is free: a second try follows then.
_PATIENCE = 1.0
_held: set[int] = set()


class Holder(NamedTuple):
    """Who works in a folder; fields as at the top of this module."""

    machine: str
    process: int
    created: float
    stops: bool = False


class InUse(ValueError):
    """Another process works in the folder."""


@contextmanager
def locked(folder: str | Path, *, stops: bool = False) -> Iterator[None]:
    """Hold a run's folder, which is made where it is missing.

    Args:
        stops: whether this process ends on SIGTERM with its state saved.

    Raises:
        InUse: another process, or another run of this one, holds it; names it.
        ValueError: it cannot be made, written to or locked.
    """
    path = Path(folder)
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            _held.add(file)
            stack.callback(_close, file)
            end = time.monotonic() + _PATIENCE
            while not _flock(file, fcntl.LOCK_EX):
                if time.monotonic() > end:
                    raise InUse(f"run: {path} is in use by {_words(_read(file))}; stop it first")
                time.sleep(0.01)
            mine = Holder(platform.node(), os.getpid(), began(psutil.Process()), stops)
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(mine._asdict()).encode(), 0)
        except OSError as error:
            raise ValueError(
                f"run: expected a folder that can be written to and locked, got {str(path)!r}: "
                f"{error.strerror}"
            ) from error
        yield


def holder(folder: str | Path) -> Holder | None:
    """Who works in a folder now; None where nobody does, or can."""
    try:
        with (Path(folder) / LOCK).open("rb") as file:
            free = _flock(file.fileno(), fcntl.LOCK_SH)
            return None if free else _read(file.fileno())
    except OSError:
        return None


def check_unshared(folder: str | Path) -> None:
    """Refuse to write where another process has begun to work.

    It can where a folder was moved, or its ``run.lock`` removed, while a run went on in it.

    Raises:
        InUse: names the process.
    """
    known = holder(folder)
    if known and known[:2] != (platform.node(), os.getpid()):
        raise InUse(
            f"run: {folder} was moved, or its {LOCK} removed, and is now in use by {_words(known)}"
        )


def process_of(holder: Holder) -> psutil.Process | None:
    """The process of a holder, where it is on this machine and has not ended."""
    try:
        process = psutil.Process(holder.process)
        # Another process may have got the same number since.
        same = abs(began(process) - holder.created) < 2
        here = holder.machine == platform.node()
        return process if here and same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, TypeError, ValueError, OverflowError):
        return None


def began(process: psutil.Process) -> float:
    """When a process began, in seconds from the machine's start: no set clock moves it."""
    start = psutil.boot_time()
    return float(process.create_time() - start)


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: int) -> Holder:
    try:
        about = json.loads(os.pread(file, 4096, 0))
        return Holder(**about)
    except (ValueError, TypeError):  # it is just being written
        return Holder("", -1, 0.0)


def _words(holder: Holder) -> str:
    if holder.process < 0:
        return "another process"
    return f"process {holder.process} on {holder.machine}"


def _close(file: int) -> None:
    _held.discard(file)
    os.close(file)


def _let_go() -> None:
    """A forked process, such as one that reads images, must not outlive the run with its lock."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
