"""The command line: ``spectralkd`` and ``python -m spectralkd``."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import io
import itertools
import json
import os
import platform
import re
import signal
import sys
import textwrap
import webbrowser
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_origin

import torch
import typer

from spectralkd import __version__
from spectralkd.analysis.survey import survey, survey_tables
from spectralkd.bench.speed import (
    Timing,
    bench_losses,
    bench_scaling,
    bench_spectra,
    bench_train,
    bench_widgets,
)
from spectralkd.checks import check_choice
from spectralkd.data import DATASETS, load_data
from spectralkd.data.images import ImageFiles, suited
from spectralkd.figures import report
from spectralkd.figures.tables import Style, format_table
from spectralkd.losses import METHODS, find_method
from spectralkd.losses.base import method_options
from spectralkd.losses.distiller import given
from spectralkd.losses.taps import Resize
from spectralkd.models import create_model
from spectralkd.models.features import Statistics, check_layers
from spectralkd.models.layout import Layout, Layouts
from spectralkd.models.weights import load_weights
from spectralkd.reproduction.demo import (
    STUDENT_IMAGES,
    demo_table,
    differences,
    how_measured,
    run_demo,
    seeds_table,
    write_demo,
)
from spectralkd.reproduction.forecast import forecast
from spectralkd.reproduction.paper_tables import results_table
from spectralkd.reproduction.records import Size
from spectralkd.reproduction.study import RESULTS, run_study, study_state
from spectralkd.spectra.power import Ring, Window
from spectralkd.spectra.powerlaw import check_band
from spectralkd.training import api
from spectralkd.training.accelerator import (
    cpu_capabilities,
    is_main_process,
)
from spectralkd.training.recipes import (
    RECIPES,
    Preset,
    Recipe,
    get_recipe,
    parse_value,
    read_settings,
    recipe_like,
    recipe_options,
)
from spectralkd.training.run_folder import Run
from spectralkd.training.together import Stopped

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Natural statistics of network activations, and knowledge distillation that uses them.",
)
_show_traceback = False


def main() -> None:
    """Run the command line; a wrong input ends in one line and exit status 2."""
    if os.getcwd() not in sys.path:  # where package.module:name of a user's file is found
        sys.path.insert(0, os.getcwd())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without α still shows the numbers
    try:
        _check_words(sys.argv[1:])
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except Stopped as stopped:
        print(f"spectralkd: {stopped}", file=sys.stderr)
        status = 130 if signal.SIGINT in _signals else 143
    except Exception as error:
        # The command line's own errors show themselves; others here are wrong inputs.
        known = (ValueError, TypeError, OSError, RuntimeError, ArithmeticError)
        own = hasattr(error, "format_message")
        if _show_traceback or not (own or isinstance(error, known)):
            raise
        print(f"spectralkd: {_one_line(error, sys.argv[1:])}", file=sys.stderr)
        status = 2
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if status == 130:  # Ctrl-C
        print("spectralkd: interrupted; the same command resumes a run", file=sys.stderr)
    if isinstance(status, int) and status:
        sys.exit(status)


def _check_words(words: list[str]) -> None:
    """Refuse empty values: an empty path would be the working directory."""
    for before, word in itertools.pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if not word.strip() or (option.startswith("--") and equals and not value.strip()):
            name = option if word.strip() else before
            raise ValueError(f"{name or 'command'}: expected a value, got {value!r}")


def _one_line(error: Exception, words: list[str]) -> str:
    lines = getattr(error, "format_message", error.__str__)().strip().splitlines()
    # An error in a process that reads images brings its traceback along, its own words last.
    text = " ".join(map(str.strip, lines))
    if "Traceback" in text:
        text = re.sub(r"^\w+: ", "", lines[-1])
    option = re.match("Invalid value for '(--[a-z-]+)'", text)
    if option and option[1] in words[:-1]:
        value = words[len(words) - words[::-1].index(option[1])]
        text += "" if value in text else f", got {value!r}"
    return text


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    traceback: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options that go before a command."""
    global _show_traceback
    _show_traceback = traceback


# --- Figs. 1 and 2 --------------------------------------------------------------------------------


@app.command()
def spectra(
    data: Annotated[
        str, typer.Option(help=f"{', '.join(DATASETS)} or package.module:function.")
    ] = "photos",
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=4, help="Side of images read from files; default: the network's, or 224."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Number of validation images; default: all.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Network, such as wrn28_4, torchvision/swin_t, timm/convnext_tiny or "
            "package.module:function."
        ),
    ] = "wrn16_2",
    weights: Annotated[
        Path | None, typer.Option(help="File of weights or folder of a run; default: untrained.")
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="Weights that come with the package, or DEFAULT for a zoo's own."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Comma-separated layers; default: the ends of the stages.")
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            help="nchw, nhwc or tokens, for all layers, or for one as LAYER=tokens; may be "
            "repeated; default: found out."
        ),
    ] = None,
    statistics: Annotated[
        Statistics, typer.Option(help="Statistics that batch norms use.")
    ] = "batch",
    ring: Annotated[
        Ring, typer.Option(help="jacobian: |k| × ring mean, as in the paper; or the ring mean.")
    ] = "jacobian",
    window: Annotated[Window, typer.Option(help="Taper of each map.")] = "none",
    band: Annotated[
        tuple[float, float], typer.Option(help="Frequencies of the fit, in cycles/pixel.")
    ] = (1 / 8, 1 / 2),
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Random seed of untrained weights.")
    ] = 0,
    device: Annotated[
        str | None, typer.Option(help="Such as cuda; default: cuda where there is one.")
    ] = None,
    style: Annotated[Style, typer.Option(help="Format of the tables.")] = "text",
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("spectra.html"),
) -> None:
    """Measure the power spectra of images and of a network's activations (Figs. 1 and 2)."""
    _check_output(output)
    check_band(band)
    place = _device(device)
    source = load_data(data, "validation", root=root, image_size=image_size)
    source = source if images is None else source.subset(images)
    torch.manual_seed(seed)
    if pretrained:
        net = create_model(model, pretrained=pretrained)
        weights = Path(f"{model}-{pretrained}")
    else:
        net = create_model(model, num_classes=len(source.classes))
        if weights is not None:
            load_weights(net, weights)
    net.to(place)
    layouts = _layouts(layout) if layout else None
    if isinstance(layouts, dict):
        check_layers(net, list(layouts))
    source = suited(source, net)
    if image_size and isinstance(source, ImageFiles):
        source = replace(source, image_size=image_size)
    found = survey(
        net,
        source,
        layers.split(",") if layers else None,
        ring=ring,
        window=window,
        layout=layouts,
        statistics=statistics,
        batch_size=batch_size,
        band=band,
    )
    state = f"weights of {weights}" if weights else f"untrained, seed {seed}"
    convention = "|k| × ring mean (the paper)" if ring == "jacobian" else "the ring mean"
    caption = (
        f"{model} ({state}, {statistics} statistics) on {len(source)} images of {data}; power is "
        f"{convention}, window {window}, fitted over [{band[0]:g}, {band[1]:g}) cycles/pixel."
    )
    print(caption)
    for table in survey_tables(found):
        print(f"\n{table.title}\n{format_table(table.header, table.rows, style)}")
        print(textwrap.fill(table.convention, 100))
    if not report.has_plotly():
        print(f"No page written to {output}: plotly is not installed (pip install plotly).")
        return
    from spectralkd.figures.survey import write_survey

    write_survey(found, output, model, caption)
    print(f"\nInteractive plots: {output}")


def _layouts(texts: list[str]) -> Layouts:
    """One layout for all layers, or those of single ones by name."""
    if len(texts) == 1 and "=" not in texts[0]:
        check_choice("layout", texts[0], Layout)
        return cast(Layout, texts[0])
    for text in texts:
        if "=" not in text:
            raise ValueError(f"layout: expected LAYER=LAYOUT, or one layout for all, got {text!r}")
        check_choice("layout", text.rpartition("=")[2], Layout)
    parts = [text.rpartition("=") for text in texts]
    return {layer: cast(Layout, kind) for layer, _, kind in parts}


# --- training -------------------------------------------------------------------------------------


def _recipe_command(fixed: str | None = None, without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Make a command of a function whose parameter ``recipe`` is a finished ``Recipe``.

    Its name (unless ``fixed``), its preset and every field but those of ``without`` become
    parameters of the command. They are built from the dataclass, so that a field is described in
    one place only.
    """
    fields = {name: of for name, of in recipe_options().items() if name not in without}
    added = [
        _parameter(name, _option_type(kind), typer.Option(help=_help(text), show_default=False))
        for name, (kind, text) in fields.items()
    ]
    if fixed is None:
        preset = typer.Option(help="Numbers of the paper (default), or of Heo et al.")
        added.append(_parameter("preset", Preset | None, preset))
        names = typer.Argument(help=f"One of {', '.join(RECIPES)}; or none, with --config.")
        added.append(_parameter("recipe", str | None, names))
        like = typer.Option(
            *("--config", "--like"),
            help="Take all settings from a run's folder or a file, such as recipe --json prints, "
            "but those given here.",
        )
        added.append(_parameter("config", Path | None, like))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.name not in ("recipe", "settings")
        ]
        signature = inspect.Signature([*own, *added])

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            name, preset = given.pop("recipe", fixed), given.pop("preset", None)
            config = given.pop("config", None)
            changes = {field: given.pop(field) for field in fields}
            changes = {field: value for field, value in changes.items() if value not in (None, [])}
            if "drops" in changes:
                changes["drops"] = tuple(changes["drops"])
            if config is None:
                command(recipe=get_recipe(name or "", preset or "paper", **changes), **given)
                return
            if name or preset:
                raise ValueError(
                    f"config: expected no recipe or preset beside {config}, which has its own, "
                    f"got {name or preset}"
                )
            settings = read_settings(config)
            if "settings" in inspect.signature(command).parameters:
                given["settings"] = settings
            command(recipe=recipe_like(settings, **changes), **given)

        wrapped.__signature__ = signature  # type: ignore[attr-defined]
        wrapped.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        return app.command()(wrapped)

    return decorate


def _parameter(name: str, kind: Any, option: Any, default: Any = None) -> inspect.Parameter:
    annotation = Annotated[kind, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _option_type(kind: Any) -> Any:
    """The type of an option that may be omitted; several values are given one by one."""
    return list[float] | None if get_origin(kind) is tuple else kind | None


def _help(text: str) -> str:
    return text if "default" in text else f"{text[:-1]}; default: the recipe's."


@_recipe_command()
def train(
    recipe: Recipe,
    run: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    student: Annotated[
        bool, typer.Option("--student", help="Train the student alone instead of the teacher.")
    ] = False,
    tracker: Annotated[
        str | None,
        typer.Option(help="Experiment tracker, such as trackio or tensorboard; default: none."),
    ] = None,
) -> None:
    """Train the teacher of a recipe, or its student alone (the baseline)."""
    role: Literal["teacher", "student"] = "student" if student else "teacher"
    api.check_students([api.StudentRun(recipe, run)])  # a name that is not used yet is right, too
    _report(api.train(recipe, run, role=role, tracker=tracker, stop=_terminated()))


@_recipe_command(without=("seed",))
def distill(
    recipe: Recipe,
    run: Annotated[
        Path,
        typer.Option(
            help="Folder of the run, an unfinished one is resumed; of several methods or seeds, "
            "the folder of their runs METHOD-SEED."
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(METHODS)} or package.module:Class; several are summed: kd+spectral; "
            "may be repeated: all students of a seed are trained behind one pass of the teacher; "
            "default: spectral."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help=f"{recipe_options()['seed'][1][:-1]}; may be repeated; default: 0."),
    ] = None,
    teacher_run: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            help="Finished run or file of weights; if omitted, a teacher is trained first.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="Option of the method as name=value, of one of several as METHOD.name=value; "
            "may be repeated."
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="Layers to compare as TEACHER_LAYER=STUDENT_LAYER, one pair a stage; default: "
            "the networks' stage tables."
        ),
    ] = None,
    layout: Annotated[list[str] | None, typer.Option(help="As in the command spectra.")] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(help="How the larger map of a stage comes to the size of the smaller."),
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option(help="Experiment tracker, such as trackio or tensorboard; default: none."),
    ] = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """Distill the teacher of a recipe into its student (Tables 2 and 3)."""
    like = _distillation(settings or {})
    connection = given(
        layers=_pairs(layers) if layers else like["layers"],
        layout=_layouts(layout) if layout else like["layout"],
        resize=resize or like["resize"],
    )
    methods, seeds = list(dict.fromkeys(method or [like["method"]])), seed or [recipe.seed]
    options = {name: _method_options(name, option or [], methods) for name in methods}
    if like["method"] in options:
        options[like["method"]] = _merged(like["options"], options[like["method"]])
    several = len(methods) * len(seeds) > 1
    students = [
        api.StudentRun(
            replace(recipe, seed=number),
            run / f"{name.rpartition(':')[2]}-{number}" if several else run,
            name,
            options[name],
            connection,
        )
        for number in dict.fromkeys(seeds)
        for name in methods
    ]
    stop = _terminated()
    if teacher_run is None:
        api.check_students(students)
        teacher_run = api.train(recipe, run / "teacher", tracker=tracker, stop=stop).path
    for made in api.distill_together(students, teacher_run, tracker=tracker, stop=stop):
        _report(made)


@app.command("recipe")
def show_recipe(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")],
    preset: Annotated[Preset, typer.Option(help="Numbers of the paper or of Heo et al.")] = "paper",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a file for --config instead of a table.")
    ] = False,
) -> None:
    """Print every setting of a recipe with its meaning."""
    values = vars(get_recipe(name, preset))
    if as_json:
        print(json.dumps({"recipe": values}, indent=2))
        return
    rows = [(f, str(values[f]), textwrap.fill(t, 60)) for f, (_, t) in recipe_options().items()]
    print(format_table(("setting", "value", "meaning"), rows))


@app.command()
def study(
    minutes: Annotated[
        float, typer.Option(min=0, max=1e6, help="Minutes to work; 0 only lists.")
    ] = 0.0,
    size: Annotated[
        Size | None,
        typer.Option(
            help="full: the paper's list, the default on a GPU; short: its questions in shorter "
            "runs; small: small networks."
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
    chosen: Size = size or ("full" if _best_device() == "cuda" else "short")
    if minutes > 0:
        place = str(root) if root else None
        run_study(
            chosen,
            minutes,
            runs=runs,
            results=results,
            root=place,
            only=only,
            stop=_terminated(),
        )
    states = study_state(chosen, runs, results, only=only)
    rows = [
        (s.job.name, str(s.job.step), s.status, f"{s.epochs} of {s.job.recipe.epochs}")
        for s in states
    ]
    print(format_table(("run", "step", "state", "epochs"), rows))
    counts = ", ".join(
        f"{sum(s.status == status for s in states)} {status}"
        for status in ("recorded", "unfinished", "missing", "waiting")
    )
    print(f"\n{chosen} list: {counts}. spectralkd study --size {chosen} --minutes 9 continues it.")
    hours = forecast(s.job for s in states if s.status != "recorded")
    print(f"What is missing takes at least {hours:.1f} hours on this machine, judged by one step.")


@app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    style: Annotated[Style, typer.Option(help="Format of the table.")] = "text",
) -> None:
    """Print Table 2 or 3 from finished runs, beside the paper's numbers."""
    print(results_table(runs, style))


@_recipe_command(fixed="demo")
def demo(
    recipe: Recipe,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to run beside spectral, such as overhaul; may be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, with seeds from --seed on.")] = 1,
    student_images: Annotated[
        int, typer.Option(help="Number of the teacher's images that the student sees.")
    ] = STUDENT_IMAGES,
    run: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/demo"),
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("demo.html"),
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser if there is one.")
    ] = True,
) -> None:
    """What a teacher gives a student that sees few images: in two minutes, offline."""
    _check_output(output)
    methods = list(dict.fromkeys(("spectral", *(method or ()))))
    result = run_demo(recipe, run, methods, seeds, student_images, stop=_terminated())
    print(demo_table(result))
    if seeds > 1:
        print(f"\n{seeds_table(result)}")
    print()
    for text in (*differences(result), f"\n{how_measured(result)}"):
        print(textwrap.fill(text, 90, replace_whitespace=False))
    if report.has_plotly():
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


# Those received since a run began.
_signals: list[int] = []


def _terminated() -> Callable[[], bool]:
    """Whether this process was asked to end since: a run then saves its state and ends.

    By SIGTERM, SIGHUP (the terminal was closed) or SIGINT (Ctrl-C; the second ends it at once);
    of several processes, also by the end of their launcher.
    """
    _signals.clear()
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    launcher = os.getppid()

    def ask(number: int, _: object) -> None:
        # A launcher passes on the Ctrl-C that a terminal has already sent to all processes.
        if number == signal.SIGINT and signal.SIGINT in _signals and not several:
            raise KeyboardInterrupt
        _signals.append(number)

    def orphaned() -> bool:
        if several and os.getppid() != launcher:
            _signals.append(signal.SIGHUP)
        return bool(_signals)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, ask)
    return orphaned


def _report(run: Run) -> None:
    last = run.last_metrics()
    errors = ", ".join(
        f"{name} {last[key]:.2f} %"
        for name, key in (("top-1 error", "top1_error"), ("top-5 error", "top5_error"))
    )
    if is_main_process():
        print(f"{run.path}: {errors} after epoch {last['epoch']}")


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        teacher, equals, student = text.partition("=")
        if not (teacher and equals and student):
            raise ValueError(f"layers: expected TEACHER_LAYER=STUDENT_LAYER, got {text!r}")
        pairs.append((teacher, student))
    return pairs


def _method_options(method: str, given: list[str], methods: list[str]) -> dict[str, Any]:
    """Options of one of several methods: those for all of them, and those that name it."""
    if len(methods) == 1:
        return _own_options(method, given)
    own = []
    for text in given:
        of = next((name for name in methods if text.startswith(f"{name}.")), None)
        if of in (None, method):
            own.append(text.removeprefix(f"{method}."))
    return _own_options(method, own)


def _own_options(method: str, given: list[str]) -> dict[str, Any]:
    """``name=value`` as the types of the method's defaults; of a sum, ``method.name=value``."""
    if "+" in method:
        own: dict[str, list[str]] = {part: [] for part in method.split("+")}
        for text in given:
            place, equals, value = text.partition("=")
            part, _, name = place.rpartition(".")
            if part not in own:
                raise ValueError(
                    f"option: expected method.name=value with one of {', '.join(own)}, got {text!r}"
                )
            own[part].append(f"{name}{equals}{value}")
        return {part: _own_options(part, texts) for part, texts in own.items()}
    defaults = method_options(find_method(method))
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in defaults:
            raise ValueError(
                f"option: expected name=value with a name among "
                f"{', '.join(defaults) or 'none'} for {method}, got {text!r}"
            )
        options[name] = parse_value(name, type(defaults[name]), value)
    return options


def _distillation(settings: dict[str, Any]) -> dict[str, Any]:
    """Method, options and layers in the settings of a run; defaults where none was distilled."""
    if settings.get("role") != "distill":
        settings = {}
    own = _unlike(settings.get("options", {}), settings.get("recipe", {}))
    places = {name: settings.get(name) for name in ("layers", "layout", "resize")}
    return {"method": settings.get("method", "spectral"), "options": own, **places}


def _unlike(options: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The options of a method that it does not have from its recipe, which may change."""
    return {
        name: _unlike(value, recipe) if isinstance(value, dict) else value
        for name, value in options.items()
        if name not in recipe or value != recipe[name]
    }


def _merged(options: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Options with some of them, or of those of a sum's methods, replaced."""
    inner = {k: {**options.get(k, {}), **v} for k, v in changes.items() if isinstance(v, dict)}
    return {**options, **changes, **inner}


# --- speed ----------------------------------------------------------------------------------------


@app.command()
def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="spectra, scaling, losses, train, widgets; default: all."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device of spectra, scaling, losses; default: cuda if there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure speed on this machine, as ratios to a named floor in one run."""
    place = _device(device)
    benches: dict[str, Callable[[], list[Timing]]] = {
        "spectra": functools.partial(bench_spectra, place),
        "scaling": functools.partial(bench_scaling, place),
        "losses": functools.partial(bench_losses, place),
        "train": bench_train,
        "widgets": bench_widgets,
    }
    if unknown := sorted(set(what or ()) - set(benches)):
        raise ValueError(f"bench: expected some of {', '.join(benches)}, got {unknown}")
    chosen = what or list(benches)
    if not what and importlib.util.find_spec("ipywidgets") is None:
        print("widgets: left out, because it needs the notebooks extra", file=sys.stderr)
        chosen.remove("widgets")
    processor = cpu_capabilities().get("cpu_name") or platform.processor()
    if place.startswith("cuda"):
        processor = torch.cuda.get_device_name()
    machine = {
        "device": place,
        "processor": processor or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "spectralkd": __version__,
    }
    records: dict[str, object] = {"machine": machine}
    for name in chosen:
        timings = benches[name]()
        records[name] = [asdict(timing) for timing in timings]
        if not as_json:
            _print_timings(timings)
    if as_json:
        print(json.dumps(records))
    else:
        print(", ".join(f"{name} {value}" for name, value in machine.items()))


def _print_timings(timings: list[Timing]) -> None:
    rows = [
        (
            t.what,
            t.input,
            f"{1e3 * t.seconds:.1f}",
            f"{t.ratio:.2f}",
            "–" if t.mebibytes is None else f"{t.mebibytes:.0f}",
        )
        for t in timings
    ]
    table = format_table(("call", "input", "ms", "ratio", "peak MiB"), rows)
    print(table, end="\n\n", flush=True)


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(name: str | None) -> str:
    """The device of that name, once it was seen to work; by default the best."""
    if name is None:
        return _best_device()
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = "cpu or cuda" if torch.cuda.is_available() else "cpu, no GPU was found"
        raise ValueError(f"device: expected {known}, got {name!r}") from error
    return name


def _check_output(path: Path) -> None:
    """Refuse a place for a page before the work is done."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"output: expected a file in an existing folder, got {str(path)!r}")
