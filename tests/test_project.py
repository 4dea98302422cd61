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

import spectralkd as skd

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Each folder or module imports only from those before it, and from itself.
LEVELS = [
    {"checks"},
    {"registry"},
    {"spectra"},
    {"models", "data"},
    {"losses"},
    {"analysis"},
    {"training"},
    {"figures"},
    {"widgets"},
    {"reproduction", "bench"},
    {"cli"},
    {"__main__"},
]
METHODS = ("baseline", "kd", "fitnets", "at", "jacobian", "ft", "ab", "overhaul", "spectral")


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
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert not {"torch", "plotly", "ipywidgets"} & set(done.stdout.split())


def test_the_users_names_are_exported_and_shown() -> None:
    wanted = (
        *("create_model", "load_data", "activation_spectra", "radial_power", "ring_correlation"),
        *("RadialPowerSpectrum", "fit_power_law", "Distiller", "METHODS", "train", "distill"),
        *("evaluate", "plot_spectra"),
    )
    assert set(wanted) <= set(dir(skd))
    for name in set(dir(skd)) - {"__version__"}:
        assert name.isupper() or getattr(skd, name).__module__.startswith("spectralkd")
    with pytest.raises(AttributeError, match="has no attribute 'spectrum'"):
        skd.spectrum  # noqa: B018
    # What type checkers see is what is imported.
    tree = ast.parse((ROOT / "spectralkd" / "__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    places = {a.name: n.module for n in typed.body for a in n.names}  # type: ignore[attr-defined]
    assert places == {name: f"spectralkd.{place}" for name, place in skd._PLACES.items()}


def test_the_library_needs_no_notebook_package() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['plotly', 'ipywidgets', 'anywidget']))\n"
        "import spectralkd.cli"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("path", sorted((ROOT / "spectralkd").rglob("*.py")), ids=str)
def test_imports_run_one_way(path: Path) -> None:
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    here = path.relative_to(ROOT / "spectralkd").with_suffix("").parts[0]
    if here == "__init__":
        return
    assert here in level, f"{here} has no level"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spectralkd."):
            name = str(node.module).split(".")[1]
            assert level[name] < level[here] or name == here, f"{path.name} imports {name}"


def test_the_documented_folder_listing_is_the_packages() -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    listed = re.findall(r"^    (\w+)(?:/|\.py)  ", page, re.M)
    there = {p.stem for p in (ROOT / "spectralkd").iterdir() if not p.name.startswith("_")}
    assert set(listed) == there
    order = {name: number for number, names in enumerate(LEVELS) for name in names}
    assert [order[name] for name in listed] == sorted(order[name] for name in listed)


def test_the_documents_name_only_what_exists() -> None:
    named = []
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        named += re.findall(r"`(\w+)\.(\w+)\.(\w+)`", text)
    assert len(named) > 15
    for folder, module, name in named:
        text = (ROOT / "spectralkd" / folder / f"{module}.py").read_text()
        assert re.search(rf"^(def|class) {name}\b", text, re.M), f"{folder}.{module}.{name}"


def test_the_reference_has_every_module() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    documented = set(re.findall(r"^::: spectralkd\.(\w+\.\w+)$", pages, re.M))
    there = {f"{p.parent.name}.{p.stem}" for p in (ROOT / "spectralkd").glob("*/*.py")}
    assert {name for name in there if "__" not in name} == documented


def test_readme_is_short() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.S)
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    assert len(" ".join(prose).split()) < 900  # tables and code apart


def test_readme_names_every_methods_file_and_test() -> None:
    readme = (ROOT / "README.md").read_text()
    for method in METHODS:
        (row,) = re.findall(rf"^\| `{method}` \| \[{method}\.py\].*$", readme, re.M)
        path, name = re.findall(r"\((tests/\w+\.py)\) `(\w+)`", row)[0]
        assert re.search(rf"^def {name}\b", (ROOT / path).read_text(), re.M), name


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install --editable '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text()
    assert 'href="choices/"' in page
    assert "notebooks/figures/spectra.png" in page
    assert "api/losses/#spectralkd.losses.spectral" in page
    assert (
        'id="spectralkd.losses.spectral.Spectral"'
        in (tmp_path / "api" / "losses" / "index.html").read_text()
    )
    # Stored, not run again: the pictures of the notebooks' figures are there.
    assert (
        "data:image/png"
        in (tmp_path / "notebooks" / "03_activation_spectra" / "index.html").read_text()
    )


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
        timeout=300,
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
    subprocess.run(
        [sys.executable, ROOT / "notebooks" / "render.py", path], check=True, timeout=300
    )
    stored = nbformat.read(path, as_version=4).cells[0]
    assert "application/vnd.plotly.v1+json" in stored.outputs[0].data
    stored.source = code(3.001)
    assert "1 passed" in judged(tmp_path, stored)
    stored.source = code(3.1)
    assert "1 failed" in judged(tmp_path, stored)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_every_stored_figure_has_a_picture(path: Path) -> None:
    # Code hosts show pictures alone.
    outputs = [o for c in nbformat.read(path, as_version=4).cells for o in c.get("outputs", [])]
    stored = [o.data for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert stored
    assert all("image/png" in data for data in stored), "pip install kaleido, then render.py"


def test_a_notebook_that_was_not_run_is_refused(tmp_path: Path) -> None:
    assert "cell 0 was not run" in judged(tmp_path, nbformat.v4.new_code_cell("print(1)"))
