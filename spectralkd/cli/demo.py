"""What a teacher gives, as a page."""

from __future__ import annotations

import os
import sys
import textwrap
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from spectralkd.cli.recipe import recipe_command
from spectralkd.cli.signals import terminated
from spectralkd.cli.values import check_output
from spectralkd.figures import report
from spectralkd.reproduction.demo import (
    STUDENT_IMAGES,
    demo_table,
    differences,
    how_measured,
    run_demo,
    seeds_table,
    write_demo,
)
from spectralkd.training.recipes import Recipe


@recipe_command(fixed="demo")
def demo(
    recipe: Recipe,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to run beside spectral, such as overhaul; may be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, with seeds from --seed on.")] = 1,
    student_images: Annotated[
        int, typer.Option(help="Number of images of the same halves that the student sees.")
    ] = STUDENT_IMAGES,
    run: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/demo"),
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("demo.html"),
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser if there is one.")
    ] = True,
) -> None:
    """What a teacher gives a student that sees few images: in two minutes, offline.

    A student takes as many steps as --epochs passes over all training images would. The teacher,
    which has weights from CIFAR-100, trains for two epochs with a learning rate of its own.
    """
    check_output(output)
    methods = list(dict.fromkeys(("spectral", *(method or ()))))
    result = run_demo(recipe, run, methods, seeds, student_images, stop=terminated())
    print(demo_table(result))
    if seeds > 1:
        print(f"\n{seeds_table(result)}")
    print()
    for text in (*differences(result), f"\n{how_measured(result)}"):
        print(textwrap.fill(text, 90, replace_whitespace=False))
    if not report.has_plotly():
        print(f"\nNo page written to {output}: plotly is not installed (pip install plotly).")
    else:
        write_demo(result, output)
        print(f"\nInteractive plots: {output}")
        if open_page and _has_display():
            webbrowser.open(output.resolve().as_uri())


def _has_display() -> bool:
    """Whether a person sits at this terminal, with a screen."""
    screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return screen and sys.stdout.isatty() and not os.environ.get("CI")
