"""Speed on this machine."""

from __future__ import annotations

import functools
import importlib.util
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import torch
import typer

from spectralkd import __version__
from spectralkd.bench import (
    Timing,
    bench_losses,
    bench_scaling,
    bench_spectra,
    bench_table,
    bench_train,
    bench_widgets,
)
from spectralkd.cli.values import find_device
from spectralkd.figures.tables import format_table
from spectralkd.training.accelerator import cpu_capabilities


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="spectra, scaling, losses, train, table, widgets; default: all."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device of spectra, scaling, losses; default: cuda if there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure speed on this machine, as ratios to a named floor in one run."""
    place = find_device(device)
    benches: dict[str, Callable[[], list[Timing]]] = {
        "spectra": functools.partial(bench_spectra, place),
        "scaling": functools.partial(bench_scaling, place),
        "losses": functools.partial(bench_losses, place),
        "train": bench_train,
        "table": bench_table,
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
