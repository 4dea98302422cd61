"""Run the project's notebooks again and compare each output with the stored one.

``compare.py`` says what may differ. Cells tagged ``records``, and the whole notebook of results,
show records and are compared exactly. A cell whose widget says that something could not be
measured fails, and so does an exercise that does not know its right and its wrong answer, which
are in the cell's metadata (``"exercise": {"right": …, "wrong": …}``).

Notebooks are those to which ``00_start_here.ipynb`` links: a person's own in this folder are left
alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from compare import difference
from nbval.plugin import IPyNbCell

LARGEST = 1_000_000  # bytes
FIRST, RESULTS = "00_start_here.ipynb", "06_results.ipynb"
FIGURE, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
ALL_SHOWN = "from spectralkd.widgets.base import finished; await finished()"
NO_ANSWER = "answer = None"
ANSWERED = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as said:
    exec({source!r})
assert said.getvalue().startswith({says!r}), said.getvalue()
"""

# What is stored is of a CPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# A figure as data alone: its picture is not compared.
os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"


class Close:
    """An output that equals another one close to it."""

    def __init__(self, value: Any, exact: bool) -> None:
        self.value, self.exact = value, exact

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Close) and not difference(
            self.value, other.value, exact=self.exact
        )


def explain(cell: IPyNbCell, mime: str, stored: Close, fresh: Close) -> None:
    found = difference(stored.value, fresh.value, mime, exact=stored.exact)
    cell.comparison_traceback.append(found)


def runtest(cell: IPyNbCell) -> None:
    """Run a cell; wait for its widget, and answer its exercise right and wrong."""
    _runtest(cell)
    if any(WIDGET in output.get("data", {}) for output in cell.test_outputs):
        run_after(cell, ALL_SHOWN, "The widget shows an error")
    for kind, says in (("right", "Right."), ("wrong", "Not yet")):
        if kind in (answers := cell.cell.metadata.get("exercise", {})):
            source = cell.cell.source.replace(NO_ANSWER, f"answer = {answers[kind]!r}")
            code = ANSWERED.format(source=source, says=says)
            run_after(cell, code, f"The exercise does not say {says!r} to {answers[kind]!r}")


def run_after(cell: IPyNbCell, code: str, problem: str) -> None:
    """Run more code in the notebook's kernel; if it raises, the cell fails."""
    kernel, seconds = cell.parent.kernel, cell.config.option.nbval_cell_timeout
    request = kernel.execute_cell_input(code, allow_stdin=False)
    kernel.await_reply(request, timeout=seconds)
    error, idle = "", False
    while not idle:
        message = cell.parent.get_kernel_message(timeout=seconds)
        if message["parent_header"].get("msg_id") == request:
            error = error or message["content"].get("evalue", "")
            idle = message["content"].get("execution_state") == "idle"
    if error:
        cell.raise_cell_error(problem, error)


def is_exact(cell: IPyNbCell) -> bool:
    tags = cell.cell.metadata.get("tags", [])
    return "records" in tags or cell.parent.path.name == RESULTS


# nbval has no public hooks for these, hence the pinned version.
_sanitize, _runtest = IPyNbCell.sanitize, IPyNbCell.runtest
IPyNbCell.sanitize = lambda self, output: Close(_sanitize(self, output), is_exact(self))
IPyNbCell.format_output_compare = explain
IPyNbCell.runtest = runtest


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave a person's own notebooks alone."""
    if collection_path.suffix != ".ipynb":
        return None
    first = collection_path.with_name(FIRST)
    linked = (
        re.findall(r"\]\(([\w.-]+\.ipynb)\)", first.read_text("utf-8")) if first.exists() else []
    )
    return None if collection_path.name in {FIRST, *linked} else True


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """Refuse a notebook that stored nothing to compare, or no picture, or too much."""
    if file_path.suffix == ".ipynb" and (problems := found_in(file_path)):
        raise pytest.UsageError(
            f"{file_path.name}: {'; '.join(problems)}. Run python notebooks/render.py"
        )


def found_in(path: Path) -> list[str]:
    """What is wrong with a notebook as it is stored."""
    notebook = nbformat.read(path, as_version=4)
    problems = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            problems.append(f"cell {number} was not run")
        if NO_ANSWER in cell.source and not {"right", "wrong"} <= {
            *cell.metadata.get("exercise", {})
        }:
            problems.append(f"cell {number} is an exercise without a right and a wrong answer")
        shown = [output.get("data", {}) for output in cell.outputs]
        if any({FIGURE, WIDGET} & data.keys() and "image/png" not in data for data in shown):
            problems.append(f"cell {number} shows a figure or widget without its picture")
    if "widgets" in notebook.metadata:
        problems.append("it stores widget state")
    if path.stat().st_size > LARGEST:
        problems.append(f"it is over {LARGEST} bytes")
    return problems
