"""Does the project keep its promises about itself?"""

from __future__ import annotations

import ast
import base64
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import plotly.io as pio
import pytest
import yaml
from PIL import Image, ImageDraw

import spectralkd as skd
from spectralkd.losses import METHODS

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
    {"reproduction"},
    {"bench"},
    {"cli"},
    {"__main__"},
]


def test_environment_and_pyproject_agree() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {d for d in environment["dependencies"] if isinstance(d, str)}
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert f"python{PROJECT['requires-python']}" in conda
    extras = PROJECT["optional-dependencies"]
    listed = {*PROJECT["dependencies"], *extras["notebooks"], *extras["test"]}
    assert set(pip) == {d for d in listed if not d.startswith("spectralkd")} | {"--editable ."}


def test_the_citation_and_the_changes_know_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == skd.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]
    assert f"\n## {skd.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


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
    for name in dir(skd):
        assert name.isupper() or getattr(skd, name).__module__.startswith("spectralkd")
    with pytest.raises(AttributeError, match="No spectralkd attribute spectrum"):
        skd.spectrum  # noqa: B018


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
    imported = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by dots"
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    for module, *names in (name.split(".") for name in imported):
        if module == "spectralkd" and names and names[0] != "__version__":
            assert level[names[0]] < level[here] or names[0] == here, f"{path.name}: {names[0]}"


def test_the_documented_folder_listing_is_the_packages() -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    listed = re.findall(r"^    (\w+)(?:/|\.py)  ", page, re.M)
    paths = [p for p in (ROOT / "spectralkd").iterdir() if p.is_dir() or p.suffix == ".py"]
    there = {p.stem for p in paths if not p.name.startswith("_")}
    assert set(listed) == there
    order = {name: number for number, names in enumerate(LEVELS) for name in names}
    assert [order[name] for name in listed] == sorted(order[name] for name in listed)


def test_the_documents_name_only_what_exists() -> None:
    named = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
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
    # The command line says itself what it does.
    own = {n for n in there if "__" not in n and not n.startswith("cli.")}
    assert own | {"reproduction.lists"} == documented


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

PICTURE = {"image/png": "iVBORw0KGgo="}


def judged(tmp_path: Path, *cells: nbformat.NotebookNode) -> str:
    """What pytest says of a notebook of these cells."""
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), tmp_path / "00_start_here.ipynb")
    for name in ("conftest.py", "compare.py"):
        (tmp_path / name).write_text((ROOT / "notebooks" / name).read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.stdout + done.stderr


def printing(code: str, stored: str, **metadata: Any) -> nbformat.NotebookNode:
    output = nbformat.v4.new_output("stream", name="stdout", text=stored)
    return nbformat.v4.new_code_cell(code, execution_count=1, outputs=[output], metadata=metadata)


def showing(code: str, **data: Any) -> nbformat.NotebookNode:
    result = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    return nbformat.v4.new_code_cell(code, execution_count=1, outputs=[result])


def test_one_run_of_planted_cells_fails_where_it_must(tmp_path: Path) -> None:
    def curve(last: float) -> str:
        trace = f"go.Scatter(y=np.array([1.0, 2.0, {last}]))"
        return f"import numpy as np, plotly.graph_objects as go\ngo.Figure({trace})"

    shown: dict[str, Any] = {}
    exec(curve(3.0).replace("go.Figure", "figure = go.Figure"), shown)
    plotly = {"application/vnd.plotly.v1+json": json.loads(pio.to_json(shown["figure"]))} | PICTURE
    panel = (
        "from spectralkd.widgets.base import Panel\n"
        "class P(Panel):\n    def problems(self): return {}\nP([])"
    )
    text = {"text/plain": "P (run this cell to see the widget)"} | PICTURE
    exercise = (
        "from spectralkd.widgets.exercise import check\nanswer = None\n"
        "check(answer, 1.0, within=0.1)"
    )
    asked = "Your turn: put your answer in place of None and run this cell again.\n"
    passing = [
        printing("print('α = -2.201, n = 7')", "α = -2.202, n = 7\n"),
        showing(curve(3.001), **plotly),
        showing(panel.format("[]"), **text),
        printing(exercise, asked, exercise={"right": 1.05, "wrong": 2}),
    ]
    failing = [
        printing("print('α = -2.20 ± 0.05')", "α = -2.25 ± 0.05\n"),
        printing("print('64.86 %')", "64.97 %\n"),
        printing("print('64.86 %')", "64.87 %\n", tags=["records"]),
        showing(curve(3.1), **plotly),
        showing(panel.format("['group1: bad']"), **text),
        printing(exercise, asked, exercise={"right": 2, "wrong": 1}),
    ]
    (tmp_path / "mine.ipynb").write_text("a person's own, broken")
    said = judged(tmp_path, *passing, *failing)
    assert f"{len(failing)} failed, {len(passing)} passed" in said, said
    for words in ("stored α = -2.25", "group1: bad", "does not say &apos;Right.&apos;"):
        assert words in said or words.replace("&apos;", "'") in said, said


def test_what_is_stored_is_checked(tmp_path: Path) -> None:
    wrong = {
        "cell 0 was not run": nbformat.v4.new_code_cell("print(1)"),
        "without its picture": showing("figure", **{"application/vnd.plotly.v1+json": {}}),
        "a right and a wrong answer": printing("answer = None", ""),
    }
    for number, cell in enumerate(wrong.values()):
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"{number}.ipynb")
    code = (
        "from pathlib import Path; from conftest import found_in\n"
        f"for path in sorted(Path({str(tmp_path)!r}).iterdir()): print(found_in(path))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "notebooks", capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    for words, said in zip(wrong, done.stdout.splitlines(), strict=True):
        assert words in said


def test_rendering_again_keeps_what_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    render = importlib.import_module("render")
    monkeypatch.setattr(render, "picture", lambda figure: "drawn")
    kind = "application/vnd.plotly.v1+json"

    def output(value: float, **more: str) -> nbformat.NotebookNode:
        return showing("", **{kind: {"data": [value], "layout": {}}}, **more).outputs[0]

    stored = output(1.0, **PICTURE)
    (kept,) = render.merged([stored], [output(1.0001)], [])
    assert kept == stored
    (drawn,) = render.merged([stored], [output(1.1)], [])
    assert drawn.data["image/png"] == "drawn"


def test_a_picture_of_a_widget_is_renewed_when_a_digit_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    render = importlib.import_module("render")

    def shot(epochs: str, color: str) -> str:
        page = Image.new("RGB", (818, 933), "white")
        ImageDraw.Draw(page).text((600, 10), epochs, fill="black")
        ImageDraw.Draw(page).rectangle((100, 100, 700, 700), fill=color)
        file = BytesIO()
        page.save(file, "PNG")
        return render.smaller(file.getvalue())

    assert render.look_alike(shot("4", "#0072B2"), shot("4", "#0072B3"))
    assert not render.look_alike(shot("4", "#0072B2"), shot("8", "#0072B2"))


def test_stored_pictures_keep_their_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    render = importlib.import_module("render")
    many = np.full((600, 600, 3), 255, dtype=np.uint8)
    many[:300, :, 0] = many[:300, :, 1] = np.linspace(0, 255, 600)
    lines = {10: (230, 159, 0), 20: (213, 94, 0), 30: (204, 121, 167)}
    for row, color in lines.items():
        many[300 + row, :40] = color
    file = BytesIO()
    Image.fromarray(many).save(file, "PNG")
    stored = Image.open(BytesIO(base64.b64decode(render.smaller(file.getvalue()))))
    for row, color in lines.items():
        assert np.abs(np.subtract(stored.convert("RGB").getpixel((5, 300 + row)), color)).max() < 20


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("0*.ipynb")), ids=str)
def test_every_stored_figure_and_widget_has_a_picture(path: Path) -> None:
    # Code hosts show pictures alone.
    outputs = [o for c in nbformat.read(path, as_version=4).cells for o in c.get("outputs", [])]
    stored = [output.data for output in outputs if "data" in output]
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in stored)
    shown = [
        data
        for data in stored
        if "application/vnd.plotly.v1+json" in data
        or "(run this cell" in data.get("text/plain", "")
    ]
    assert shown
    assert all("image/png" in data for data in shown), "python notebooks/render.py"


def test_outputs_of_notebooks_are_compared_as_they_are_printed() -> None:
    spec = importlib.util.spec_from_file_location("compare", ROOT / "notebooks" / "compare.py")
    assert spec
    assert spec.loader
    compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compare)
    for stored, fresh in (
        ("a 1.50", "a 1.51"),
        ("1.2e5", "1.3e5"),
        ("3", "3"),
        ("+7e512/", "+7e512/"),
    ):
        assert not compare.difference(stored, fresh)
    # The last pairs are no numbers, but parts of encoded pictures.
    for stored, fresh in (
        *(("1.50", "1.52"), ("1.2e5", "1.4e5"), ("3", "4"), ("a", "b")),
        *(("+7e512/", "+8e512/"), ("+0e512/", "+1e512/")),
    ):
        assert compare.difference(stored, fresh)
