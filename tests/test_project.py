"""Does the project keep its promises about itself?"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from spectralkd.losses import METHODS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Arrows run down this list: a module imports only from rooms below its own.
ROOMS = [
    {"__main__"},
    {"cli"},
    {"peers"},
    {"demo", "study", "bench"},
    {"notebook"},
    {"report", "train", "results", "launch", "distances"},
    {"batches", "recipes", "replay", "losses", "views", "agreement", "records"},
    {"tables", "features", "kernels", "data", "runs"},
    {"models", "powerlaw"},
    {"spectrum", "weights"},
]


def test_environment_and_pyproject_agree() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {d for d in environment["dependencies"] if isinstance(d, str)}
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert f"python{PROJECT['requires-python']}" in conda
    extras = PROJECT["optional-dependencies"]
    listed = {*PROJECT["dependencies"], *extras["notebooks"], *extras["test"]}
    assert set(pip) == {d for d in listed if not d.startswith("spectralkd")} | {"--editable ."}


def test_import_is_light() -> None:
    code = "import sys, spectralkd; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"plotly", "ipywidgets", "torchmetrics"} & set(loaded)


def test_the_library_needs_no_notebook_package() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['plotly', 'ipywidgets', 'anywidget']))\n"
        "import spectralkd.cli"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", sorted((ROOT / "spectralkd").rglob("*.py")), ids=str)
def test_imports_run_one_way(path: Path) -> None:
    rank = {name: number for number, room in enumerate(ROOMS) for name in room}
    here = path.relative_to(ROOT / "spectralkd").with_suffix("").parts[0]
    if here == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "spectralkd":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spectralkd."):
            names = [str(node.module).split(".")[1]]
        for name in set(names) & set(rank):
            assert rank[name] > rank[here] or name == here, f"{path.name} imports {name}"


def test_readme_names_only_what_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    for module, name in re.findall(r"`(\w+)\.(\w+)`", readme):
        places = (ROOT / "spectralkd" / f"{module}.py", ROOT / f"spectralkd/notebook/{module}.py")
        for path in (place for place in places if place.exists() and name != "html"):
            assert re.search(rf"^(def|class) {name}\b", path.read_text(), re.M), f"{module}.{name}"


def test_readme_names_every_methods_file_and_test() -> None:
    readme = (ROOT / "README.md").read_text()
    for method in METHODS:
        (row,) = re.findall(rf"^\| `{method}` \| \[{method}\.py\].*$", readme, re.M)
        path, name = re.findall(r"\((tests/\w+\.py)\) `(\w+)`", row)[0]
        assert re.search(rf"^def {name}\b", (ROOT / path).read_text(), re.M), name


def test_style_and_types() -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


# --- the notebooks' own test can fail -------------------------------------------------------------


def judged(tmp_path: Path, cell: nbformat.NotebookNode) -> str:
    """What pytest says of a notebook of one cell."""
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "planted.ipynb")
    (tmp_path / "conftest.py").write_text((ROOT / "notebooks" / "conftest.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def printing(code: str, stored: str) -> nbformat.NotebookNode:
    output = nbformat.v4.new_output("stream", name="stdout", text=stored)
    return nbformat.v4.new_code_cell(code, execution_count=1, outputs=[output])


def test_a_wrong_exponent_in_a_notebook_fails(tmp_path: Path) -> None:
    said = judged(tmp_path, printing("print('α = -2.20 ± 0.05')", "α = -2.25 ± 0.05\n"))
    assert "1 failed" in said
    assert "stored α = -2.25" in said


def test_rounding_in_a_notebook_passes(tmp_path: Path) -> None:
    said = judged(tmp_path, printing("print('α = -2.201, n = 7')", "α = -2.202, n = 7\n"))
    assert "1 passed" in said


def test_a_wrong_curve_in_a_notebook_fails(tmp_path: Path) -> None:
    def code(last: float) -> str:
        trace = f"go.Scatter(y=np.array([1.0, 2.0, {last}]))"
        return f"import numpy as np, plotly.graph_objects as go\ngo.Figure({trace})"

    path = tmp_path / "planted.ipynb"
    cell = nbformat.v4.new_code_cell(code(3.0))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    subprocess.run([sys.executable, "-m", "spectralkd.notebook", path], check=True)
    stored = nbformat.read(path, as_version=4).cells[0]
    assert "application/vnd.plotly.v1+json" in stored.outputs[0].data
    stored.source = code(3.001)
    assert "1 passed" in judged(tmp_path, stored)
    stored.source = code(3.1)
    assert "1 failed" in judged(tmp_path, stored)


def test_a_notebook_that_was_not_run_is_refused(tmp_path: Path) -> None:
    assert "cell 0 was not run" in judged(tmp_path, nbformat.v4.new_code_cell("print(1)"))
