"""The accelerator of one run: its device, processes and precision."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import uuid
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env

from spectralkd.training.recipes import Recipe
from spectralkd.training.run_folder import write_whole


def make_accelerator(recipe: Recipe, run: str | Path, tracker: str | None = None) -> Accelerator:
    """accelerate's view of the machine, in the recipe's precision.

    Args:
        recipe: its ``precision`` and ``compile`` are read.
        run: folder of the run, for the tracker.
        tracker: one of accelerate's, such as ``"trackio"`` or ``"tensorboard"``; by default none.

    Raises:
        TypeError: ``recipe`` is none.
        RuntimeError: several processes were asked for and one was started.
        ValueError: ``compile="graph"`` on anything but one CUDA device; a tracker that there is
            not, or whose package is not installed.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe: expected one, as get_recipe gives it, got {recipe!r}")
    _check_tracker(tracker)
    _forget_precision()
    accelerator = Accelerator(
        mixed_precision="bf16" if _uses_bf16(recipe) else "no",
        log_with=tracker,
        project_dir=str(run),
        # Phases before the last may leave the student's classifier out of the loss.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    _check_processes(accelerator)
    _check_graph(recipe, accelerator)
    if accelerator.num_processes > 1:
        _leave_group_at_exit()
    return accelerator


def tracker_settings(run: str | Path) -> dict[str, dict[str, Any]]:
    """What ``init_trackers`` passes on, so that a resumed run goes on in its tracker's run.

    wandb and trackio know a run by the name that is kept in its folder. TensorBoard adds a file
    to the same folder; other trackers begin a new run.
    """
    place = Path(run) / "tracker-run"
    if not place.is_file():
        write_whole(place, f"{Path(run).resolve().name}-{uuid.uuid4().hex[:8]}".encode())
    name = place.read_text()
    resumed = {"name": name, "resume": "allow"}
    return {"trackio": resumed, "wandb": {**resumed, "id": name, "dir": str(run)}}


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return bool(PartialState().is_main_process)


def cpu_capabilities() -> dict[str, Any]:
    """What torch says of the processor; nothing where torch is too old to."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())


def faster_precision(recipe: Recipe) -> str:
    """A hint where a run in float32 could be faster in bf16 on this processor, else nothing."""
    if recipe.precision != "auto" or torch.cuda.is_available():
        return ""
    known = cpu_capabilities()
    # Measured: a step of setup (c) on two cores of a Xeon, of WRN-28-4 on two of an EPYC.
    part = 0.4 if known.get("amx_bf16") else 0.6 if known.get("avx512_bf16") else None
    if part is None:
        return ""
    return f"this processor computes in bf16: --precision bf16 takes {part} of the time"


def compiles(recipe: Recipe, accelerator: Accelerator) -> bool:
    """Whether a run uses ``torch.compile``."""
    if recipe.compile == "auto":
        return bool(accelerator.device.type == "cuda") and _can_compile()
    return recipe.compile in ("yes", "graph")


def replays(recipe: Recipe, accelerator: Accelerator) -> bool:
    """Whether a run replays its steps as CUDA graphs."""
    one_gpu = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    return recipe.compile == "graph" or (recipe.compile == "auto" and one_gpu)


@cache
def _can_compile() -> bool:
    """Whether what ``torch.compile`` needs on a GPU is there: Triton and a C compiler."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    found = bool(compiler and importlib.util.find_spec("triton"))
    if not found:
        warnings.warn("runs are not compiled, for want of Triton or a C compiler", stacklevel=2)
    return found


def _uses_bf16(recipe: Recipe) -> bool:
    if recipe.precision == "auto":
        # The device that accelerate chooses, which it also makes the current one.
        device = PartialState(parse_flag_from_env("ACCELERATE_USE_CPU")).device
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return recipe.precision == "bf16"


def _forget_precision() -> None:
    """Let each run of a process choose its precision.

    accelerate keeps the first ``mixed_precision`` of a process in a shared state and refuses
    another one; there is no public way to reset that and keep the process group.
    """
    AcceleratorState._reset_state()


@cache
def _leave_group_at_exit() -> None:
    """A process that ends while threads of its group run is at times aborted."""

    def leave() -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    atexit.register(leave)


def _check_tracker(tracker: str | None) -> None:
    """accelerate warns of a missing package, and trains without a tracker."""
    if tracker is None:
        return
    if tracker not in LOGGER_TYPE_TO_CLASS:
        known = ", ".join(LOGGER_TYPE_TO_CLASS)
        raise ValueError(f"tracker: expected one of {known}, got {tracker!r}")
    if tracker not in map(str, get_available_trackers()):
        raise ValueError(f"tracker: {tracker} is not installed (pip install {tracker})")


def _check_processes(accelerator: Accelerator) -> None:
    """Refuse a launch of several processes that started a single one.

    Where it cannot start several, accelerate's launcher starts one without a warning. Then either
    it set the address of a meeting point but no world size, or the world size is above 1 and this
    process is not part of that world.
    """
    world = int(os.environ.get("WORLD_SIZE", 0))
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if accelerator.num_processes == 1 and (world > 1 or (launched and world == 0)):
        raise RuntimeError(
            "several processes were asked for and one was started; on CPUs use "
            "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2"
        )


def _check_graph(recipe: Recipe, accelerator: Accelerator) -> None:
    one_gpu = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    if recipe.compile == "graph" and not one_gpu:
        raise ValueError(
            f"compile: expected one CUDA device for graph, got {accelerator.num_processes} × "
            f"{accelerator.device.type}"
        )
