"""The site is made of the repository's own files: README, ``docs`` and the stored notebooks.

Links between them are written as a code host reads them, from file to file; here they become
links between pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = ("README.md", *("notebooks/*.ipynb", "notebooks/figures/*"))


@event_priority(100)  # before the plugin that takes up the notebooks
def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside the folder ``docs``, under its path from the root."""
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point each link at the page that its file became; a file without a page keeps its name."""
    uri = page.file.src_uri
    folder = posixpath.dirname(uri if _beside(uri) else f"docs/{uri}")

    def relinked(found: re.Match[str]) -> str:
        text, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        source = re.fullmatch(r"spectralkd/(\w+)/(\w+)\.py", path)
        if source:
            here, anchor = f"api/{source[1]}.md", f"#spectralkd.{source[1]}.{source[2]}"
        else:
            here = path.removeprefix("docs/")
        if files.get_file_from_path(here) is None:
            return text.strip("![]")
        return f"{text}({posixpath.relpath(here, posixpath.dirname(uri) or '.')}{anchor or ''})"

    return re.sub(r"(!?\[[^\]]*\])\(([^)#:\s]+)(#[^)\s]*)?\)", relinked, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """The same for notebooks, whose links come as HTML and whose pages are folders."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    html = re.sub(r'href="(?:notebooks/)?(\w+)\.ipynb"', r'href="../\1/"', html)
    return re.sub(r'href="\.\./docs/(\w+)\.md', r'href="../../\1/', html)


def _beside(uri: str) -> bool:
    return (ROOT / uri).is_file()
