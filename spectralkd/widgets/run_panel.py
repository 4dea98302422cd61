"""Launch runs from a form; watch, stop, resume, rename, remove and compare them."""

from __future__ import annotations

import asyncio
import html
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets as widgets

from spectralkd.figures.report import write_report
from spectralkd.figures.runs import runs_figure
from spectralkd.figures.style import nothing
from spectralkd.figures.tables import format_table
from spectralkd.losses.options import named_options
from spectralkd.training.launch import (
    RunState,
    resume,
    run_state,
    start,
    stop,
)
from spectralkd.training.run_folder import Run, find_runs
from spectralkd.widgets.background import duration
from spectralkd.widgets.base import Panel, csv_link, remember, row, table_box
from spectralkd.widgets.plot import Plot
from spectralkd.widgets.run_form import RunForm, run_inside
from spectralkd.widgets.ticks import TickList

SECONDS = 1.0  # between two updates
_DOUBLE_CLICK = 1.0  # seconds, in which a second click does not yet say yes

# The last panel over each folder: when its cell is run again, the next one takes over.
_latest: dict[str, RunPanel] = {}


class _Pace(NamedTuple):
    """When and with how many epochs a running run was first seen."""

    begun: float
    epochs: int


class RunPanel(Panel):
    """A form that launches runs, and the runs of a folder with their metrics.

    Each run is a process of its own (``training.launch.start``), which continues when the kernel
    stops. The panel shows every run in its folder and follows its ``metrics.jsonl``.

    Args:
        folder: where runs are found, and new ones are made.
        recipe: initial choice among ``training.recipes.RECIPES``.
        changes: values of the recipe's fields, in place of every recipe's own.
    """

    def __init__(
        self, folder: str | Path = "runs", *, recipe: str = "demo", **changes: Any
    ) -> None:
        self.folder = Path(folder).absolute()
        self.found: dict[str, RunState] = {}
        self._shown: object = None
        self._watch: asyncio.Task[None] | None = None
        self._pace: dict[str, _Pace] = {}
        self._asked: float | None = None  # when it was asked whether to delete the chosen run
        self._colors: dict[str, int] = {}  # of each run, as long as this panel lives
        self.form = RunForm(self.folder, recipe, changes)
        self.runs = TickList("Show runs")
        self.chosen = widgets.Dropdown(options=[], description="Chosen run")
        self.message, self.states, self.csv = widgets.HTML(), table_box(), table_box()
        self.launch_button = widgets.Button(description="Launch", button_style="primary")
        self.stop_button = widgets.Button(description="Stop")
        self.resume_button = widgets.Button(description="Resume")
        self.new_name = widgets.Text(description="New name", continuous_update=False)
        self.rename_button = widgets.Button(description="Rename")
        self.remove_button = widgets.Button(description="Remove")
        self.save_button = widgets.Button(
            description="Save comparison", tooltip="One page with the runs that are ticked"
        )
        self.plot = Plot("Runs")
        self._look()
        remember(f"panel {self.folder}, shown", {"runs": self.runs})
        self._observe()
        buttons = row(self.chosen, self.stop_button, self.resume_button, self.remove_button)
        names = row(self.new_name, self.rename_button)
        parts = [self.form, self.launch_button, self.message]
        beside = widgets.VBox([self.states, buttons, names], layout=widgets.Layout(flex="1 1 30em"))
        parts += [row(self.runs, beside), self.plot]
        super().__init__([*parts, row(self.csv, self.save_button)])
        self._draw()
        self._take_over()

    def refresh(self) -> None:
        """Read the runs and draw what is new; in a kernel, this happens every second."""
        self._look()
        self._draw()

    def close(self) -> None:
        """Stop updating, and remove the widget. The runs continue."""
        if self._watch:
            self._watch.cancel()
        super().close()

    # --- buttons ---

    def _observe(self) -> None:
        self.form.on_check = self._allow
        self._allow()
        self.runs.observe(lambda _: self._draw(), "value")
        self.chosen.observe(lambda _: self._ask_again(), "value")
        for button, action in (
            (self.launch_button, self._launch),
            (self.stop_button, lambda: stop(self._run())),
            (self.resume_button, lambda: resume(self._run())),
            (self.rename_button, self._rename),
            (self.remove_button, self._remove),
            (self.save_button, self._save),
        ):
            button.on_click(lambda _, action=action: self._perform(action))

    def _take_over(self) -> None:
        """Close the last panel of the same folder, and refresh every second."""
        if last := _latest.get(str(self.folder)):
            last.close()
        _latest[str(self.folder)] = self
        with suppress(RuntimeError):  # no event loop: the caller calls refresh
            self._watch = asyncio.get_running_loop().create_task(self._keep_looking())

    def _allow(self) -> None:
        self.launch_button.disabled = bool(self.form.obstacles)

    def _launch(self) -> None:
        launch = self.form.launch()
        start(launch)
        name = str(launch.run.relative_to(self.folder.resolve()))
        self._look()
        self.runs.value = (*self.runs.value, name)
        self.chosen.value = name

    def _rename(self) -> None:
        """Give the chosen run the new name; one that a run has trained for itself keeps its own."""
        path, name = self._idle_run(), self.chosen.value
        to = run_inside(self.folder, self.new_name.value)
        if to.exists():
            raise ValueError(f"{to} exists: choose another name.")
        path.rename(to)
        new = str(to.relative_to(self.folder.resolve()))
        self._colors[new] = self._colors.pop(name)
        self._look()
        self.chosen.value, self.new_name.value = new, ""
        self.message.value = f"{html.escape(name)} is {html.escape(new)} now."

    def _remove(self) -> None:
        """Delete the chosen run's folder, if the button is clicked again; not by a double click."""
        path, name = self._idle_run(), self.chosen.value
        if self._asked is None:
            self._asked = time.monotonic()
            self.remove_button.description = "Delete for ever"
            self.remove_button.button_style = "danger"
        elif time.monotonic() - self._asked > _DOUBLE_CLICK:
            shutil.rmtree(path)
            self._ask_again()
            self.message.value = f"{html.escape(name)} was deleted."
            return
        self.message.value = f"Delete {html.escape(name)} for ever? Then click again."

    def _ask_again(self) -> None:
        self._asked = None
        self.remove_button.description, self.remove_button.button_style = "Remove", ""

    def _save(self) -> None:
        """Write the ticked runs' table and curves as a page."""
        if not self.runs.value:
            raise ValueError("Tick the runs to compare.")
        path = self.folder / "comparison.html"
        settings = [
            (name, *_settings(self.folder / name))
            for name in self.runs.value
            if (self.folder / name / "config.json").is_file()
        ]
        header = ("run", "task", "network", "method", "options", "setup", "epochs", "seed")
        sections = [
            ("Runs", self._table(self.runs.value)),
            ("Settings", format_table(header, settings, style="html")),
            ("Curves", self.plot.figure),
        ]
        write_report(path, "Comparison of runs", sections)
        self.message.value = f"Saved: {html.escape(str(path))}"

    def _run(self) -> Path:
        if self.chosen.value is None:
            raise ValueError(f"There is no run in {self.folder} yet.")
        return self.folder / self.chosen.value

    def _idle_run(self) -> Path:
        """The chosen run, which stands by itself, and in which nothing is running."""
        path, name = self._run(), self.chosen.value
        if (outer := str(Path(name).parent)) in self.found:
            raise ValueError(f"{name} belongs to {outer}: rename or remove that.")
        for other, state in self.found.items():
            if state.status == "running" and name in (other, str(Path(other).parent)):
                raise ValueError(f"{other} is running: stop it first.")
        return path

    def _perform(self, action: Callable[[], None]) -> None:
        """Perform a button's action and show its error, if any."""
        self.message.value = ""
        if action != self._remove:
            self._ask_again()
        try:
            action()
        except (ValueError, OSError) as error:
            self.message.value = _error(error)
        self.refresh()
        self.form.check()

    # --- the runs ---

    async def _keep_looking(self) -> None:
        shown = ""
        while True:
            await asyncio.sleep(SECONDS)
            try:
                self.refresh()
                said = ""
            # A file that is written or removed just now, or that another program has written: the
            # next look may find it mended.
            except Exception as error:
                said = _error(error)
            if said or self.message.value == shown:
                self.message.value = shown = said

    def _look(self) -> None:
        """Find the folder's runs and their states."""
        self.found = {
            str(path.relative_to(self.folder)): run_state(path) for path in find_runs(self.folder)
        }
        for name, state in self.found.items():
            outer = self.found.get(str(Path(name).parent))
            if outer and outer.status == "running" and state.status == "stopped":
                self.found[name] = state._replace(status="running")  # trained by the outer one
            self._colors.setdefault(name, len(self._colors))
            if self.found[name].status != "running":
                self._pace.pop(name, None)
            elif name not in self._pace:
                self._pace[name] = _Pace(time.monotonic(), state.epochs)
        names = tuple(self.found)
        of_runs = (self.stop_button, self.resume_button, self.remove_button)
        for button in (*of_runs, self.rename_button, self.save_button):
            button.disabled = not names
        if names != self.runs.options:
            new = [name for name in names if name not in self.runs.options]
            ticked = [name for name in self.runs.value if name in names]
            kept = self.chosen.value
            self.runs.options = names
            self.runs.value = (*ticked, *new)
            self.chosen.options = names
            self.chosen.value = kept if kept in names else next(iter(names), None)
        self.form.offer_teachers(
            [
                name
                for name, state in self.found.items()
                if state.status == "finished"
                and Run(self.folder / name).read_config().get("role") == "teacher"
            ]
        )

    def _draw(self) -> None:
        """Draw the ticked runs if anything has changed."""
        self.states.value = self._table(tuple(self.found))
        known = self.found, self.runs.value
        if known == self._shown:
            return
        if self._shown and known[0] != self._shown[0]:  # type: ignore[index]
            self.form.check()
        self._shown = known
        readable = [n for n in self.runs.value if self.found[n].status != "unreadable"]
        lines = {name: Run(self.folder / name).read_metrics() for name in readable}
        if any(lines.values()):
            self.plot.show(runs_figure(lines, colors=self._colors))
        else:
            why = "No epoch is finished yet." if lines else "Launch a run, or tick one."
            self.plot.show(nothing(why).update_layout(height=180))
        rows = [
            (name, number, key, value)
            for name, read in lines.items()
            for number, line in enumerate(read, start=1)
            for key, value in line.items()
            if isinstance(value, float)
        ]
        header = ("run", "epoch", "number", "value")
        self.csv.value = csv_link("runs.csv", header, rows) if rows else ""

    def _table(self, names: tuple[str, ...]) -> str:
        """State, progress, error, speed and time left of runs, and why some failed."""
        if not names:
            return "No run is here yet."
        rows = [(name, *self._progress(name)) for name in names]
        header = ("run", "state", "epochs", "top-1 error", "images/s", "time left")
        parts = [format_table(header, rows, style="html")]
        for name in names:
            if words := self.found[name].last_words:
                said = f'<pre style="text-align:left">{html.escape(words)}</pre>'
                parts.append(f"{html.escape(name)} {self.found[name].status}:{said}")
        return "".join(parts)

    def _progress(self, name: str) -> tuple[str, str, str, str, str]:
        state = self.found[name]
        teacher = self.found.get(f"{name}/teacher")
        if teacher and teacher.status == state.status == "running":
            return "training its teacher", f"{teacher.epochs} of {teacher.total}", "", "", ""
        if state.status == "unreadable":
            return state.status, "", "", "", ""
        lines = Run(self.folder / name).read_metrics()
        errors = [line["top1_error"] for line in lines if "top1_error" in line]
        speed = lines[-1].get("images_per_second") if lines else None
        pace, left = self._pace.get(name), ""
        if pace and state.epochs > pace.epochs and state.total:
            each = (time.monotonic() - pace.begun) / (state.epochs - pace.epochs)
            left = duration(each * (state.total - state.epochs))
        return (
            state.status,
            f"{state.epochs} of {state.total}" if state.total else f"{state.epochs}",
            f"{errors[-1]:.2f} %" if errors else "",
            f"{speed:.0f}" if speed and state.status == "running" else "",
            left,
        )


def _error(error: Exception) -> str:
    return f'<b role="status">{html.escape(str(error))}</b>'


def _settings(run: Path) -> tuple[str, ...]:
    config = Run(run).read_config()
    recipe = config["recipe"]
    options = ", ".join(f"{name}={v}" for name, v in named_options(config["options"]).items())
    words = (config["role"], config["network"], config["method"], options)
    return (*words, *(str(recipe.get(name, "–")) for name in ("setup", "epochs", "seed")))
