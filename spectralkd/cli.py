"""The command line: ``spectralkd`` and ``python -m spectralkd``."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import platform
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import torch
import typer
from tqdm.auto import tqdm

from spectralkd import __version__, report
from spectralkd import train as training
from spectralkd.bench import (
    Timing,
    bench_losses,
    bench_scaling,
    bench_spectra,
    bench_train,
    bench_widgets,
    cpu_capabilities,
)
from spectralkd.data import load
from spectralkd.demo import HOW_MEASURED, demo_table, run_demo, write_demo
from spectralkd.features import Statistics, read_activations
from spectralkd.losses import METHODS, method_options
from spectralkd.models import PRETRAINED, create_model, model_stages
from spectralkd.peers import bench_peers
from spectralkd.powerlaw import PowerLaw, fit_power_law
from spectralkd.recipes import Preset, get_recipe, recipe_options
from spectralkd.records import FOLDER, Size
from spectralkd.results import results_table
from spectralkd.runs import Run
from spectralkd.spectrum import RadialPowerSpectrum, Ring, Spectrum, Window, ring_frequencies
from spectralkd.study import run_study, study_state
from spectralkd.tables import Style, format_table
from spectralkd.weights import load_weights

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Natural statistics of network activations, and knowledge distillation that uses them.",
)
_show_traceback = False


def main() -> None:
    """Run the command line; a wrong input ends in one line and exit status 2."""
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError, ArithmeticError) as error:
        if _show_traceback:
            raise
        print(f"spectralkd: {error}", file=sys.stderr)
        sys.exit(2)
    except training.Stopped as stopped:
        print(f"spectralkd: {stopped}", file=sys.stderr)
        sys.exit(143)
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C
            print("spectralkd: interrupted; a run goes on with the same command", file=sys.stderr)
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    traceback: Annotated[bool, typer.Option(help="Show where an error came from.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Options that go before a command."""
    global _show_traceback
    _show_traceback = traceback


@app.command()
def spectra(
    data: Annotated[str, typer.Option(help="photos, cifar10, cifar100 or imagefolder.")] = "photos",
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of imagefolder's images, pixels.")] = 224,
    images: Annotated[int | None, typer.Option(help="How many validation images; all.")] = None,
    model: Annotated[str, typer.Option(help="Network, such as wrn28_4.")] = "wrn16_2",
    weights: Annotated[
        Path | None, typer.Option(help="A file or a run; untrained without.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="Which weights of the package, such as cifar100-small.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Comma-separated layers; the ends of the stages.")
    ] = None,
    statistics: Annotated[
        Statistics, typer.Option(help="What batch norms normalise with.")
    ] = "batch",
    ring: Annotated[Ring, typer.Option(help="The paper's |k| × mean, or the mean.")] = "jacobian",
    window: Annotated[Window, typer.Option(help="Taper of each map.")] = "none",
    band: Annotated[tuple[float, float], typer.Option(help="Band of the fit, cycles/pixel.")] = (
        1 / 8,
        1 / 2,
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Images a pass.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the untrained weights.")] = 0,
    device: Annotated[str | None, typer.Option(help="Such as cuda; the best there is.")] = None,
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("spectra.html"),
) -> None:
    """Measure the power spectra of images and of a network's activations (Figs. 1 and 2)."""
    source = load(data, "validation", root=root, image_size=image_size)
    source = source if images is None else source.subset(images)
    torch.manual_seed(seed)
    if pretrained:
        net = create_model(model, pretrained=pretrained)
        weights = Path(f"{model}-{pretrained}")
    else:
        net = create_model(model, num_classes=len(source.classes))
        if weights is not None:
            load_weights(net, weights)
    net.to(device or _best_device())
    names = layers.split(",") if layers else [s.output for s in model_stages(net)]

    # One image first, so that a wrong layer, band or size is refused before the long work.
    image, _ = next(iter(source.batches(1)))
    sizes = {"images": image.shape[-2:]}
    for maps in read_activations(net, [image], names, statistics="running", progress=False):
        sizes |= {name: maps[name].shape[-2:] for name in names}
    frequency = ring_frequencies(*sizes["images"])
    fit_power_law(frequency, torch.ones_like(frequency), band=band)

    streams = {
        _label(name, pool): (name, RadialPowerSpectrum(ring=ring, window=window, pool=pool))
        for name in sizes
        for pool in (1, 2)
        if pool == 1 or (name in ("images", names[-1]) and min(sizes[name]) >= 8)
    }
    raw = tqdm(
        source.batches(batch_size, normalize=False), desc="images", unit="batch", leave=False
    )
    for batch, _ in raw:
        for name, stream in streams.values():
            if name == "images":
                stream.update(batch)
    for maps in read_activations(net, source.batches(batch_size), names, statistics=statistics):
        for name, stream in streams.values():
            if name != "images":
                stream.update(maps[name])

    measured = {label: stream.compute() for label, (_, stream) in streams.items()}
    fits = {label: _fit(spectrum, band) for label, spectrum in measured.items()}
    header = ("map", "size", "exponent", "R²")
    rows = [
        (label, "×".join(map(str, streams[label][1].size.tolist())), *_exponent(fits[label]))
        for label in measured
    ]
    state = f"weights of {weights}" if weights else f"untrained, seed {seed}"
    caption = (
        f"{model} ({state}, {statistics} statistics) on {len(source)} images of {data}; "
        f"power is "
        f"{'|k| × ring mean (the paper)' if ring == 'jacobian' else 'the ring mean'}, window "
        f"{window}, fitted over [{band[0]:g}, {band[1]:g}) cycles/pixel."
    )
    print(format_table(header, rows))
    print(f"\n{caption}\nExponents of ring means are smaller by 1 than those of |k| × ring mean.")
    if not report.has_plotly():
        print(f"No page written to {output}: plotly is not installed (pip install plotly).")
        return
    from spectralkd.notebook.figures import spectra_figure

    known = {label: fit for label, fit in fits.items() if fit}
    table = format_table(header, rows, style="html")
    sections = [("Plot", spectra_figure(measured, known)), ("Exponents", table)]
    report.write_report(output, "Power spectra", [*sections, ("How measured", f"<p>{caption}</p>")])
    print(f"Interactive plots: {output}")


def _recipe_command(command: Callable[..., None]) -> Callable[..., None]:
    """Make every field of a recipe an option of a command that takes them as ``changes``."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    own = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    fields = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[_optional(kind), typer.Option(help=text, show_default=False)],
        )
        for name, (kind, text) in recipe_options().items()
    ]
    signature = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in own] + fields)

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        changes = {name: given.pop(name) for name in recipe_options()}
        changes = {name: value for name, value in changes.items() if value not in (None, [])}
        if "drops" in changes:
            changes["drops"] = tuple(changes["drops"])
        command(**given, changes=changes)

    wrapped.__signature__ = signature  # type: ignore[attr-defined]
    wrapped.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    return app.command()(wrapped)


def _optional(kind: Any) -> Any:
    """The type of an option that may be left out; several values are given one by one."""
    return list[float] | None if get_origin(kind) is tuple else kind | None


@_recipe_command
def train(
    recipe: Annotated[str, typer.Argument(help="demo, a to f, or imagenet.")],
    run: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one goes on.")],
    preset: Annotated[Preset, typer.Option(help="The paper's numbers, or Heo et al.'s.")] = "paper",
    student: Annotated[bool, typer.Option("--student", help="Its student alone.")] = False,
    tracker: Annotated[str | None, typer.Option(help="Such as tensorboard.")] = None,
    **changes: Any,
) -> None:
    """Train the teacher of a recipe, or its student alone (the baseline)."""
    chosen = get_recipe(recipe, preset, **changes["changes"])
    role: Literal["teacher", "student"] = "student" if student else "teacher"
    _report(training.train(chosen, run, role=role, tracker=tracker, stop=_terminated()))


@_recipe_command
def distill(
    recipe: Annotated[str, typer.Argument(help="demo, a to f, or imagenet.")],
    run: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one goes on.")],
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "spectral",
    preset: Annotated[Preset, typer.Option(help="The paper's numbers, or Heo et al.'s.")] = "paper",
    teacher_run: Annotated[
        Path | None,
        typer.Option("--teacher", help="A finished run or a file of weights; trained without."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Of the method: name=value, several times.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="Such as tensorboard.")] = None,
    **changes: Any,
) -> None:
    """Distil the teacher of a recipe into its student (Tables 2 and 3)."""
    chosen = get_recipe(recipe, preset, **changes["changes"])
    options = _method_options(method, option or [])
    _report(
        training.distill(
            chosen,
            run,
            method=method,
            teacher=teacher_run,
            options=options,
            tracker=tracker,
            stop=_terminated(),
        )
    )


@app.command()
def study(
    minutes: Annotated[float, typer.Option(help="How long to work; 0 only lists.")] = 0.0,
    size: Annotated[
        Size | None, typer.Option(help="The paper's list, or one for two CPU cores.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/study"),
    records: Annotated[Path, typer.Option(help="Folder of the records.")] = FOLDER,
    weights: Annotated[Path, typer.Option(help="Folder of the teachers' weights.")] = PRETRAINED,
    root: Annotated[Path | None, typer.Option(help="Folder of CIFAR-100.")] = None,
) -> None:
    """Make the next missing runs behind the paper's tables and figures; list what is missing."""
    chosen: Size = size or ("full" if _best_device() == "cuda" else "small")
    if minutes > 0:
        place = str(root) if root else None
        run_study(
            chosen,
            minutes,
            runs=runs,
            records=records,
            weights=weights,
            root=place,
            stop=_terminated(),
        )
    states = study_state(chosen, runs, records)
    rows = [
        (s.job.name, str(s.job.step), s.status, f"{s.epochs} of {s.job.recipe.epochs}")
        for s in states
    ]
    print(format_table(("run", "step", "state", "epochs"), rows))
    counts = ", ".join(
        f"{sum(s.status == status for s in states)} {status}"
        for status in ("recorded", "unfinished", "missing", "waiting")
    )
    print(f"\n{chosen} list: {counts}. spectralkd study --size {chosen} --minutes 9 goes on.")


@app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    style: Annotated[Style, typer.Option(help="How to print it.")] = "text",
) -> None:
    """Print Table 2 or 3 from finished runs, beside the paper's numbers."""
    print(results_table(runs, style))


@_recipe_command
def demo(
    run: Annotated[Path, typer.Option(help="Folder of the three runs.")] = Path("runs/demo"),
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("demo.html"),
    **changes: Any,
) -> None:
    """Spectra, a teacher, and a student with and without it, in minutes and offline."""
    result = run_demo(get_recipe("demo", **changes["changes"]), run)
    print(demo_table(result))
    print(f"\n{textwrap.fill(HOW_MEASURED, 90)}")
    if report.has_plotly():
        write_demo(result, output)
        print(f"Interactive plots: {output}")


def _terminated() -> Callable[[], bool]:
    """Whether this process was asked to end since, by SIGTERM: a run then saves its state."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    return lambda: bool(asked)


def _report(run: Run) -> None:
    last = run.read_metrics()[-1]
    errors = ", ".join(
        f"{name} {last[key]:.2f} %"
        for name, key in (("top-1 error", "top1_error"), ("top-5 error", "top5_error"))
    )
    if training.is_main_process():
        print(f"{run.path}: {errors} after epoch {last['epoch']}")


def _method_options(method: str, given: list[str]) -> dict[str, Any]:
    """``name=value`` as the types of the method's defaults."""
    defaults = method_options(method)
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in defaults:
            raise ValueError(
                f"option: expected name=value with a name among "
                f"{', '.join(defaults) or 'none'} for {method}, got {text!r}"
            )
        kind = type(defaults[name])
        try:
            options[name] = {"true": True, "false": False}[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise ValueError(
                f"option: expected a {kind.__name__} for {name}, got {value!r}"
            ) from None
    return options


@app.command()
def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="spectra, scaling, losses, train, widgets, peers; all without."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Of spectra, scaling and losses, such as cuda; the best there is."),
    ] = None,
    clones: Annotated[
        Path | None, typer.Option(help="Folder of the peers' clones; no peers without.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a record instead.")] = False,
) -> None:
    """Measure speed on this machine, as ratios to a named floor in one run."""
    place = device or _best_device()
    benches: dict[str, Callable[[], list[Timing]]] = {
        "spectra": functools.partial(bench_spectra, place),
        "scaling": functools.partial(bench_scaling, place),
        "losses": functools.partial(bench_losses, place),
        "train": bench_train,
        "widgets": bench_widgets,
        "peers": functools.partial(bench_peers, clones or Path()),
    }
    if unknown := sorted(set(what or ()) - set(benches)):
        raise ValueError(f"bench: expected some of {', '.join(benches)}, got {unknown}")
    lacking = {
        "widgets": importlib.util.find_spec("ipywidgets") is None and "the notebooks extra",
        "peers": clones is None and "--clones",
    }
    for name, need in lacking.items():
        if not what and need:
            print(f"{name}: left out, for want of {need}", file=sys.stderr)
    chosen = what or [name for name in benches if not lacking.get(name)]
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


def _label(name: str, pool: int) -> str:
    return name if pool == 1 else f"{name}, {pool}×{pool} average-pooled"


def _fit(spectrum: Spectrum, band: tuple[float, float]) -> PowerLaw | None:
    """The power law, or None where so small a map has fewer than three rings in the band."""
    k = spectrum.frequency
    if ((k >= band[0]) & (k < band[1])).sum() < 3:
        return None
    return fit_power_law(k, spectrum.power, band=band)


def _exponent(fit: PowerLaw | None) -> tuple[str, str]:
    if fit is None:
        return "fewer than 3 rings", "–"
    return f"{fit.exponent:.3f} ± {fit.stderr:.3f}", f"{fit.r_squared:.3f}"
