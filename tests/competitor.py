"""A short run for processes that compete for its folder; they are forked with torch imported."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

from own_parts import few

from spectralkd.training.api import train
from spectralkd.training.recipes import get_recipe

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["competitor"])


def compete_for(folder: Path) -> None:
    recipe = get_recipe(
        "demo",
        epochs=4,
        batch_size=20,
        train_images=60,
        validation_images=40,
        checkpoint_seconds=0.0,
        student_model="own_parts:tiny",
        data="own_parts:few",
    )
    train(recipe, folder, role="student", progress=False)


def start(folder: Path) -> BaseProcess:
    """A process that makes the run, or resumes it."""
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path)}):
        forkserver.ensure_running()  # where it can import this module
    process = _forks.Process(target=compete_for, args=(folder,), daemon=True)
    process.start()
    return process


assert few  # imported before the fork
