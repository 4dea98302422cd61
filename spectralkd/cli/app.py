"""The application: its commands, and one entry point in which wrong input ends in one line."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
import sys
import sysconfig
from pathlib import Path
from traceback import extract_tb
from typing import Annotated

import typer

from spectralkd import __version__
from spectralkd.cli.bench import bench
from spectralkd.cli.demo import demo
from spectralkd.cli.recipe import recipe
from spectralkd.cli.signals import received
from spectralkd.cli.spectra import spectra
from spectralkd.cli.study import study, table
from spectralkd.cli.train import distill, train
from spectralkd.training.together import Stopped

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # tables of rich leave no room for the help of long options
    help="Natural statistics of network activations, and knowledge distillation that uses them.",
)
for command in (spectra, train, distill, recipe, study, table, demo, bench):
    app.command()(command)
_show_traceback = False
PACKAGE = Path(__file__).resolve().parent.parent


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
        status = 130 if signal.SIGINT in received else 143
    except Exception as error:
        # The command line's own errors show themselves; others here are wrong inputs.
        known = (ValueError, TypeError, OSError, RuntimeError, ArithmeticError)
        own = hasattr(error, "format_message")
        if _show_traceback or not (own or isinstance(error, known)):
            raise
        words = _one_line(error, sys.argv[1:])
        print(f"spectralkd: {words}{'' if own else _in_own_code(error)}", file=sys.stderr)
        status = 2
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


def _in_own_code(error: Exception) -> str:
    """Where in a file of the user's an error arose; empty if not there."""
    if isinstance(error, OSError):
        return ""
    library = Path(sysconfig.get_path("stdlib")).resolve()

    def installed(file: Path) -> bool:
        there = {"site-packages", "dist-packages"} & {*file.parts}
        return bool(there) or any(file.is_relative_to(place) for place in (library, PACKAGE))

    frames = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    own = [frame for frame in frames if not installed(Path(frame.filename).resolve())]
    if not own:
        return ""
    return f" ({own[-1].filename}, line {own[-1].lineno}; spectralkd --traceback shows all)"


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
