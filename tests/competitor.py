"""A short run for processes that compete for its folder."""

from __future__ import annotations

from multiprocessing.process import BaseProcess
from pathlib import Path

import forks

from spectralkd.training.api import train
from spectralkd.training.recipes import get_recipe


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
    return forks.start(compete_for, folder)
