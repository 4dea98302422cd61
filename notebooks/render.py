"""``python notebooks/render.py [NAME.ipynb …]``: run notebooks again and store clean outputs.

An output that says what it said before stays as it is, byte for byte, picture included (see
``compare.py``). Figures are stored as data and as pictures, which code hosts show (``pip install
kaleido`` and a Chrome or Chromium). Of a widget the picture alone is stored, taken in JupyterLab
(``pip install playwright``): without a kernel there is nothing else to show.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import plotly.io as pio
from compare import difference
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from tqdm import tqdm

FIGURE, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
PICTURE, WIDTH = "image/png", 860
HERE = Path(__file__).resolve().parent


def render(path: Path) -> None:
    """Run one notebook in its folder and replace it by the result."""
    stored = nbformat.read(path, as_version=4)
    fresh = deepcopy(stored)
    place = {"metadata": {"path": str(path.parent)}}
    # Where a stream is cut depends on the machine.
    options = {"timeout": 600, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(fresh, resources=place, **options).execute()
    fresh.metadata.pop("widgets", None)
    last = max((n for n, cell in enumerate(fresh.cells) if shows_widget(cell)), default=None)
    widgets = iter(() if last is None else screenshots(stored, last, path.name))
    for before, cell in zip(stored.cells, fresh.cells, strict=True):
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merged(before.outputs, cell.outputs, widgets)
    beside = path.with_suffix(".ipynb.new")
    nbformat.write(fresh, beside)
    os.replace(beside, path)


def shows_widget(cell: NotebookNode) -> bool:
    return any(WIDGET in output.get("data", {}) for output in cell.get("outputs", []))


def merged(
    stored: list[NotebookNode], fresh: list[NotebookNode], widgets: Iterable[str]
) -> list[NotebookNode]:
    """A cell's fresh outputs; those that say the same as before are the stored ones.

    Args:
        widgets: pictures of the notebook's widgets, of which the next is used up by each.
    """
    known = stored if len(stored) == len(fresh) else [NotebookNode()] * len(fresh)
    found = []
    for old, new in zip(known, fresh, strict=True):
        data, kept = new.get("data", {}), old.get("data", {})
        if WIDGET in data:
            del data[WIDGET]
            data[PICTURE] = next(iter(widgets))
            if PICTURE in kept and look_alike(kept[PICTURE], data[PICTURE]):
                data[PICTURE] = kept[PICTURE]
        elif FIGURE in data and PICTURE not in data:
            same = FIGURE in kept and PICTURE in kept
            same = same and not difference(kept[FIGURE], data[FIGURE])
            data[PICTURE] = kept[PICTURE] if same else picture(data[FIGURE])
        said = [{k: v for k, v in each.items() if k != "execution_count"} for each in (old, new)]
        if old and not difference(*said):
            old.update({k: v for k, v in new.items() if k == "execution_count"})
            found.append(old)
        else:
            found.append(new)
    return found


def picture(figure: dict[str, Any]) -> str:
    """A figure as a base64 PNG."""
    if not importlib.util.find_spec("kaleido"):
        raise SystemExit("A figure has changed, and its picture needs: pip install kaleido")
    shown = {key: figure[key] for key in ("data", "layout")}
    width = shown["layout"].get("width", WIDTH)
    return smaller(pio.from_json(json.dumps(shown)).to_image("png", width=width))


def smaller(png: bytes) -> str:
    """A base64 PNG in 256 colors, a third of the bytes; no color is far from its own."""
    shown = Image.open(BytesIO(png)).convert("RGB")
    shown = shown.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    file = BytesIO()
    shown.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def look_alike(one: str, other: str) -> bool:
    """Whether two pictures have one size and hardly a pixel differs: less than a digit."""
    a, b = (
        np.asarray(Image.open(BytesIO(base64.b64decode(text))).convert("L"), dtype=float)
        for text in (one, other)
    )
    return a.shape == b.shape and float((np.abs(a - b) > 32).mean()) < 1e-5


def screenshots(notebook: NotebookNode, last: int, name: str) -> list[str]:
    """Pictures of the widgets in the cells up to the last, in order, as JupyterLab shows them."""
    sys.path.append(str(HERE.parent / "tests"))
    from lab import Page, browser, jupyterlab

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as settings:
        part = deepcopy(notebook)
        part.cells = part.cells[: last + 1]
        nbformat.write(part, Path(folder) / name)
        with jupyterlab(Path(folder), Path(settings)) as address, browser(1250, 3200) as context:
            page = Page(context, address, name)
            page.run_all()
            page.wait_for_widgets()
            return [smaller(shot) for shot in page.shots()]


def main() -> None:
    """Run the notebooks named on the command line; default: those of the project."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    paths = parser.parse_args().notebooks or sorted(HERE.glob("[0-9][0-9]_*.ipynb"))
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    for path in tqdm(paths, unit="notebook"):
        render(path)


if __name__ == "__main__":
    main()
