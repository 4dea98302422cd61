"""``python notebooks/render.py``: run all notebooks again and store clean outputs.

Figures are stored as data and, where plotly can export pictures (``pip install kaleido`` and a
Chrome or Chromium), as pictures too, which code hosts show.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import os
import sys
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image
from tqdm import tqdm


def run(path: Path) -> None:
    """Run one notebook in its folder and replace it by the result, without widget state."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    beside = path.with_suffix(".ipynb.new")
    nbformat.write(notebook, beside)
    os.replace(beside, path)


def smaller(picture: str) -> str:
    """A base64 PNG in 128 colors: half the bytes."""
    shown = Image.open(BytesIO(base64.b64decode(picture))).convert("RGB").quantize(128)
    file = BytesIO()
    shown.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Run the notebooks named on the command line; default: all beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    paths = parser.parse_args().notebooks or sorted(Path(__file__).parent.glob("*.ipynb"))
    picture = "+png" if importlib.util.find_spec("kaleido") else ""
    if not picture:
        print("kaleido is not installed: figures are stored without pictures", file=sys.stderr)
    os.environ["PLOTLY_RENDERER"] = f"plotly_mimetype{picture}"
    for path in tqdm(paths, unit="notebook"):
        run(path)


if __name__ == "__main__":
    main()
