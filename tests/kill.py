"""Train a tiny run and be killed (SIGKILL) at a chosen point: ``kill.py FOLDER METHOD POINT N``.

POINT is ``step`` (after the N-th step), ``line`` (after the N-th line of metrics), ``write``
(half-way through the N-th checkpoint), ``replace`` (after the N-th was put in place), or ``never``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from tqdm import auto as bars

from spectralkd.training import run_folder as runs
from spectralkd.training.api import distill
from spectralkd.training.recipes import get_recipe


def train_until_killed(folder: Path, method: str, point: str, number: int) -> None:
    """The process is changed so that it ends at that point: call it in one of its own."""
    calls = 0

    def count(what: str) -> None:
        nonlocal calls
        calls += what == point
        if calls == number and what == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(target: Any, name: str, what: str) -> None:
        original = getattr(target, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            count(what)
            return result

        setattr(target, name, wrapped)

    replace = runs.write_whole

    def replaced(path: Path, content: bytes) -> None:
        if path.name.startswith("checkpoint"):
            path.with_name(path.name + ".part").write_bytes(content[: len(content) // 2])
            count("write")
            replace(path, content)
            count("replace")
        else:
            replace(path, content)

    runs.write_whole = replaced
    after(runs.Run, "append_metrics", "line")
    after(bars.tqdm, "update", "step")
    recipe = get_recipe(
        "demo",
        data="photos",
        teacher_model="wrn10_2",
        epochs=3,
        batch_size=20,
        train_images=90,
        validation_images=60,
        spectra_every=2,
        restart_momentum=True,
        checkpoint_seconds=0.0,
    )
    distill(
        recipe,
        folder / "run",
        method=method,
        teacher=folder / "t.safetensors",
        options={"ft": {"paraphraser_epochs": 2}}.get(method, {}),
    )


if __name__ == "__main__":
    train_until_killed(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
