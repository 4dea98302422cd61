"""The accelerator of one run: its device, processes and precision."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from spectralkd.training.recipes import Recipe


def make_accelerator(recipe: Recipe, run: str | Path, tracker: str | None = None) -> Accelerator:
    """accelerate's view of the machine, in the recipe's precision.

    Args:
        recipe: its ``precision`` and ``compile`` are read.
        run: folder of the run, for the tracker.
        tracker: one of accelerate's, such as ``"tensorboard"``; by default none.

    Raises:
        RuntimeError: several processes were asked for and one was started.
        ValueError: ``compile="graph"`` on anything but one CUDA device.
    """
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
    return accelerator


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return bool(PartialState().is_main_process)


def compiles(recipe: Recipe, accelerator: Accelerator) -> bool:
    """Whether a run uses ``torch.compile``."""
    if recipe.compile == "auto":
        return bool(accelerator.device.type == "cuda")
    return recipe.compile in ("yes", "graph")


def replays(recipe: Recipe, accelerator: Accelerator) -> bool:
    """Whether a run replays its steps as CUDA graphs."""
    one_gpu = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    return recipe.compile == "graph" or (recipe.compile == "auto" and one_gpu)


def _uses_bf16(recipe: Recipe) -> bool:
    if recipe.precision == "auto":
        cuda = torch.cuda.is_available()
        return cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return recipe.precision == "bf16"


def _forget_precision() -> None:
    """Let each run of a process choose its precision.

    accelerate keeps the first ``mixed_precision`` of a process in a shared state and refuses
    another one; there is no public way to reset that and keep the process group.
    """
    AcceleratorState._reset_state()


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
