"""The runs behind the paper's tables and figures, and tables of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from spectralkd.cli.signals import terminated
from spectralkd.figures.tables import Style, format_table
from spectralkd.models.features import best_device
from spectralkd.reproduction.forecast import forecast
from spectralkd.reproduction.paper_tables import results_table
from spectralkd.reproduction.records import Size
from spectralkd.reproduction.study import RESULTS, JobState, Status, run_study, study_state


def study(
    minutes: Annotated[
        float,
        typer.Option(
            min=0,
            max=1e6,
            help="Minutes to work; 0 lists, and times a step of each network that is missing.",
        ),
    ] = 0.0,
    size: Annotated[
        Size | None,
        typer.Option(
            help="full: the paper's list, the default on a GPU; short: its questions in shorter "
            "runs."
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/study"),
    results: Annotated[
        Path, typer.Option(help="Folder for records and teachers' weights.")
    ] = RESULTS,
    root: Annotated[Path | None, typer.Option(help="Folder of CIFAR-100.")] = None,
    only: Annotated[str, typer.Option(help="Pattern of names, such as 'wrn16_1-*-0'.")] = "*",
) -> None:
    """Make the next missing runs behind the paper's tables and figures; list what is missing."""
    chosen: Size = size or ("full" if best_device() == "cuda" else "short")
    if minutes > 0:
        place = str(root) if root else None
        run_study(
            chosen,
            minutes,
            runs=runs,
            results=results,
            root=place,
            only=only,
            stop=terminated(),
        )
    states = study_state(chosen, runs=runs, results=results, only=only)
    rows = [(s.job.name, str(s.job.step), s.status, _epochs(s)) for s in states]
    print(format_table(("run", "step", "state", "epochs"), rows))
    counts = ", ".join(
        f"{sum(s.status == status for s in states)} {status}" for status in get_args(Status)
    )
    print(f"\n{chosen} list: {counts}.")
    if left := [(s.job, max(0, s.job.epochs - s.epochs)) for s in states if s.status != "recorded"]:
        # On a GPU runs are compiled and replayed, the step is not.
        bound = "about" if best_device() == "cuda" else "at least"
        print(
            f"What is missing takes {bound} {forecast(left):.1f} hours on this machine, judged by "
            f"one step; the same command with --minutes 9 continues it."
        )


def _epochs(state: JobState) -> str:
    return f"{state.epochs} of {state.job.epochs}" if state.job.epochs else ""


def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    style: Annotated[Style, typer.Option(help="Format of the table.")] = "text",
) -> None:
    """Print Table 2 or 3 from finished runs, beside the paper's numbers."""
    print(results_table(runs, style))
