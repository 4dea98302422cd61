"""Launch runs from a form; watch, stop, resume and compare them."""

from __future__ import annotations

import asyncio
import html
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import ipywidgets as widgets
import plotly.graph_objects as go

from spectralkd.figures.runs import runs_figure
from spectralkd.losses import METHODS
from spectralkd.training.launch import (
    Launch,
    RunState,
    cautions,
    find_runs,
    launch_command,
    obstacles,
    resume,
    run_state,
    start,
    stop,
)
from spectralkd.training.recipes import (
    RECIPES,
    Preset,
    Recipe,
    get_recipe,
    parse_value,
    recipe_options,
)
from spectralkd.training.run_folder import Run
from spectralkd.widgets.base import Panel, TickList, csv_link, remember, show_instead, table_box

SECONDS = 1.0  # between two updates

_TASKS = (
    ("distill the teacher into the student", "distill"),
    ("train the teacher", "teacher"),
    ("train the student alone", "student"),
)
_FIRST = "train it first"
_WIDE = {"description_width": "10em"}
_BOX = widgets.Layout(width="30em")
# Settings shown at once; the recipe's others are folded away.
_MAIN = ("epochs", "seed", "train_images", "root")

_COMMAND = (
    '<pre tabindex="0" aria-label="Command" style="white-space: pre-wrap; line-height: 1.4; '
    'padding: 0.5em; background: #f5f5f5; user-select: all">{}</pre>'
)

# The last panel over each folder: when its cell is run again, the next one takes over.
_latest: dict[str, RunPanel] = {}


class RunPanel(Panel):
    """A form that launches runs, and the runs of a folder with their metrics.

    Each run is a process of its own (``training.launch.start``), which continues when the kernel
    stops. The panel shows every run in its folder and follows its ``metrics.jsonl``.

    Args:
        folder: where runs are found, and new ones are made.
        recipe: initial choice among ``training.recipes.RECIPES``.
        changes: initial values of the recipe's fields.
    """

    def __init__(
        self, folder: str | Path = "runs", *, recipe: str = "demo", **changes: Any
    ) -> None:
        self.folder = Path(folder).absolute()
        self._shown: object = None
        self._watch: asyncio.Task[None] | None = None
        self._first_settings = changes
        self.controls = _make_controls(recipe)
        self.settings = {
            name: _field(name, kind, text) for name, (kind, text) in recipe_options().items()
        }
        self.runs = TickList("Show runs", height="12em")
        self.chosen = _menu("Chosen run", [], None)
        self.command_text = ""  # the exact command, to copy
        self.command = widgets.HTML(layout=widgets.Layout(width="61em"))
        self.notes, self.message, self.states = widgets.HTML(), widgets.HTML(), table_box()
        self.launch_button = widgets.Button(description="Launch", button_style="primary")
        self.stop_button = widgets.Button(description="Stop")
        self.resume_button = widgets.Button(description="Resume")
        self.figure = go.FigureWidget(runs_figure({}))
        self.csv = table_box()
        self._observe()
        super().__init__(self._arranged())
        self._check_form()
        self.refresh()
        self._take_over()

    def _observe(self) -> None:
        """Fill the form, restore earlier settings, and react to changes and buttons."""
        c = self.controls
        self._set_fields()
        for key in ("recipe", "preset"):
            c[key].observe(lambda _: self._set_fields(), "value")
        self._look()
        remember(f"panel {self.folder}", {**c, **self.settings, "runs": self.runs})
        for control in (*c.values(), *self.settings.values()):
            control.observe(lambda _: self._check_form(), "value")
        self.runs.observe(lambda _: self._draw(), "value")
        self.launch_button.on_click(lambda _: self._try(self._launch))
        self.stop_button.on_click(lambda _: self._try(lambda: stop(self._run())))
        self.resume_button.on_click(lambda _: self._try(lambda: resume(self._run())))

    def _arranged(self) -> list[widgets.Widget]:
        others = [control for name, control in self.settings.items() if name not in _MAIN]
        folded = widgets.Accordion([widgets.VBox(others)], titles=["All settings of the recipe"])
        folded.layout.width = "61em"
        main = widgets.VBox([self.settings[name] for name in _MAIN])
        buttons = widgets.HBox([self.chosen, self.stop_button, self.resume_button])
        return [
            widgets.HBox([widgets.VBox([*self.controls.values()]), main]),
            folded,
            self.command,
            self.notes,
            self.launch_button,
            self.message,
            widgets.HBox([self.runs, widgets.VBox([self.states, buttons])]),
            self.figure,
            self.csv,
        ]

    def _take_over(self) -> None:
        """Close the last panel of the same folder, and refresh every second."""
        if last := _latest.get(str(self.folder)):
            last.close()
        _latest[str(self.folder)] = self
        with suppress(RuntimeError):  # no event loop: the caller calls refresh
            self._watch = asyncio.get_running_loop().create_task(self._keep_looking())

    def refresh(self) -> None:
        """Read the runs and draw what is new; in a kernel, this happens every second."""
        self._look()
        self._draw()

    def close(self) -> None:
        """Stop updating, and remove the widget. The runs continue."""
        if self._watch:
            self._watch.cancel()
        super().close()

    # --- the form ---

    def launch(self) -> Launch:
        """The run that the form describes.

        Raises:
            ValueError: a field does not hold a valid value.
        """
        c = self.controls
        if not (name := c["run"].value.strip()):
            raise ValueError("run: expected a name for the run's folder, got none")
        if not Path(self.folder / name).resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"run: expected a name within {self.folder}, got {name!r}")
        teacher = c["teacher"].value
        return Launch(
            run=self.folder / name,
            recipe=self._recipe(),
            task=c["task"].value,
            method=c["method"].value,
            teacher=None if teacher == _FIRST else self.folder / teacher,
            processes=c["processes"].value,
            port=c["port"].value,
        )

    def _recipe(self) -> Recipe:
        c = self.controls
        plain = get_recipe(c["recipe"].value, c["preset"].value)
        changes = {}
        for name, (kind, _) in recipe_options().items():
            value = self.settings[name].value
            if isinstance(value, str):
                value = parse_value(name, kind, value)
            if value != getattr(plain, name):
                changes[name] = value
        return get_recipe(c["recipe"].value, c["preset"].value, **changes)

    def _set_fields(self) -> None:
        """Show the recipe's settings; the first time, with the panel's ``changes``."""
        recipe = get_recipe(self.controls["recipe"].value, self.controls["preset"].value)
        values = vars(recipe) | self._first_settings
        self._first_settings = {}
        for name, field in self.settings.items():
            field.value = _as_field(values[name], field)

    def _check_form(self) -> None:
        """Show the command, or the reason why there is none."""
        c = self.controls
        c["method"].disabled = c["teacher"].disabled = c["task"].value != "distill"
        try:
            launch = self.launch()
            self.command_text = shlex.join(launch_command(launch))
            found, known = obstacles(launch), cautions(launch)
        except ValueError as error:
            self.command_text, found, known = "", [str(error)], []
        self.command.value = _COMMAND.format(html.escape(self.command_text))
        self.launch_button.disabled = bool(found)
        lines = [f"<b>Cannot be launched.</b> {html.escape(text)}" for text in found]
        lines += [f"Note: {html.escape(text)}" for text in known]
        self.notes.value = "<br>".join(lines)

    def _launch(self) -> None:
        launch = self.launch()
        start(launch)
        name = str(launch.run.relative_to(self.folder))
        self._look()
        self.runs.value = (*self.runs.value, name)
        self.chosen.value = name

    def _run(self) -> Path:
        if self.chosen.value is None:
            raise ValueError(f"There is no run in {self.folder} yet.")
        return self.folder / self.chosen.value

    def _try(self, action: Callable[[], None]) -> None:
        """Perform a button's action and show its error, if any."""
        self.message.value = ""
        try:
            action()
        except (ValueError, OSError) as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"
        self.refresh()
        self._check_form()

    # --- the runs ---

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            try:
                self.refresh()
            except (ValueError, OSError) as error:  # a file that is written or removed just now
                self.message.value = f"<b>{html.escape(str(error))}</b>"

    def _look(self) -> None:
        """Find the folder's runs and their states."""
        self.found = {
            str(path.relative_to(self.folder)): run_state(path) for path in find_runs(self.folder)
        }
        names = tuple(self.found)
        if names != self.runs.options:
            new = [name for name in names if name not in self.runs.options]
            ticked = (*self.runs.value, *new)
            self.runs.options = names
            self.runs.value = ticked
            kept = self.chosen.value
            self.chosen.options = names
            self.chosen.value = kept if kept in names else next(iter(names), None)
        teachers = [
            name
            for name, state in self.found.items()
            if state.status == "finished"
            and Run(self.folder / name).read_config().get("role") == "teacher"
        ]
        options = (_FIRST, *teachers)
        menu = self.controls["teacher"]
        if options != menu.options:
            kept = menu.value
            menu.options = options
            menu.value = kept if kept in options else _FIRST

    def _draw(self) -> None:
        """Draw the ticked runs if anything has changed."""
        known = self.found, self.runs.value, self.chosen.value
        if known == self._shown:
            return
        if self._shown and known[0] != self._shown[0]:  # type: ignore[index]
            self._check_form()
        self._shown = known
        self.states.value = _states_table(self.found)
        readable = [n for n in self.runs.value if self.found[n].status != "unreadable"]
        lines = {name: Run(self.folder / name).read_metrics() for name in readable}
        if any(lines.values()):
            show_instead(self.figure, runs_figure(lines))
        rows = [
            (name, number, key, value)
            for name, read in lines.items()
            for number, line in enumerate(read, start=1)
            for key, value in line.items()
            if isinstance(value, float)
        ]
        self.csv.value = csv_link("runs.csv", ("run", "epoch", "number", "value"), rows)


def _states_table(found: dict[str, RunState]) -> str:
    if not found:
        return "No run is here yet."
    parts = ["<table><thead><tr><th>run</th><th>state</th><th>epochs</th></tr></thead><tbody>"]
    for name, state in found.items():
        total = f" of {state.total}" if state.total else ""
        cells = (name, state.status, f"{state.epochs}{total}")
        parts.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
        if state.last_words:
            words = html.escape(state.last_words)
            parts.append(
                f'<tr><td colspan="3"><pre style="text-align:left">{words}</pre></td></tr>'
            )
    return "".join([*parts, "</tbody></table>"])


# --- parts of the form ----------------------------------------------------------------------------


def _menu(label: str, options: Any, value: Any) -> widgets.Dropdown:
    return widgets.Dropdown(
        options=options, value=value, description=label, style=_WIDE, layout=_BOX
    )


def _make_controls(recipe: str) -> dict[str, Any]:
    common: dict[str, Any] = {"style": _WIDE, "layout": _BOX}
    return {
        "recipe": _menu("Recipe", RECIPES, recipe),
        "preset": _menu("Preset", get_args(Preset), "paper"),
        "task": _menu("Task", _TASKS, "distill"),
        "method": _menu("Method", list(METHODS), "spectral"),
        "teacher": _menu("Teacher", [_FIRST], _FIRST),
        "processes": widgets.BoundedIntText(
            value=1, min=1, max=64, description="Processes (GPUs)", **common
        ),
        "port": widgets.BoundedIntText(
            value=29500, min=1024, max=65535, description="Port of the processes", **common
        ),
        "run": widgets.Text(value="first", description="Name of the run", **common),
    }


def _field(name: str, kind: Any, text: str) -> widgets.Widget:
    label = name.replace("_", " ")
    common = {"description": label, "tooltip": text, "style": _WIDE, "layout": _BOX}
    if kind is bool:
        return widgets.Checkbox(description=text, indent=True, style=_WIDE, layout=_BOX)
    if get_origin(kind) is Literal:
        return widgets.Dropdown(options=get_args(kind), **common)
    if kind is int:
        return widgets.IntText(**common)
    if kind is float:
        return widgets.FloatText(**common)
    return widgets.Text(placeholder=text, **common)


def _as_field(value: Any, field: widgets.Widget) -> Any:
    if not isinstance(field, widgets.Text):
        return value
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
