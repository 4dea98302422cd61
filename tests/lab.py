"""A real JupyterLab in a real Chromium, for the browser tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_QUIET = ("gpu", "background-networking", "component-update", "sync")


@contextmanager
def jupyterlab(folder: Path, settings: Path) -> Iterator[str]:
    """A server over ``folder`` with nothing of the user's own settings; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(settings / name) for name in places}
    overrides = settings / "JUPYTERLAB_SETTINGS_DIR"
    for setting, text in (
        ("apputils-extension/notification", '{"fetchNews": "false"}'),
        ("notebook-extension/tracker", '{"windowingMode": "none"}'),  # cells out of sight stay
    ):
        file = overrides / "@jupyterlab" / f"{setting}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(overrides)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "test",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())]
    with (settings / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/api?token=test", 60)
        yield address
    finally:
        server.terminate()
        server.wait(30)


class Page:
    """One notebook open in the browser.

    Attributes:
        page: playwright's page.
        errors: what the page's scripts threw, and what they wrote as an error to the console.
    """

    def __init__(self, context: Any, address: str, notebook: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        # A workspace of its own: JupyterLab reopens what another page left open in its last one.
        space = notebook.partition(".")[0]
        self.page.goto(f"{address}/lab/workspaces/{space}/tree/{notebook}?token=test")
        self.wait_for_kernel()

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def reopen(self) -> None:
        """Save, close the notebook and open it again: the kernel lives on."""
        self.page.evaluate(
            """async () => {
              const { commands, shell } = window.jupyterapp
              const path = shell.currentWidget.context.path
              await commands.execute('docmanager:save')
              shell.currentWidget.close()
              await commands.execute('docmanager:open', { path })
            }"""
        )
        self.wait_for_kernel()

    def reload(self) -> None:
        """Save, and press F5: the kernel lives on."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        self.page.reload()
        self.wait_for_kernel()

    def wait_for_kernel(self, seconds: float = 60) -> None:
        """Until the notebook is there and its kernel waits for work."""
        self.page.wait_for_function(
            """() => {
              const widget = window.jupyterapp?.shell?.currentWidget
              return widget?.context?.isReady
                && widget.context.sessionContext?.session?.kernel?.status == 'idle'
            }""",
            timeout=1000 * seconds,
        )

    def run_all(self, seconds: float = 300) -> None:
        """Run every cell and wait for the last one."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(
            """() => window.jupyterapp.shell.currentWidget.content.widgets
              .filter(cell => cell.model.type == 'code' && cell.model.sharedModel.source.trim())
              .every(cell => cell.model.executionCount)""",
            timeout=1000 * seconds,
        )
        self.wait_for_kernel(seconds)

    def wait_for_widgets(self, seconds: float = 120) -> None:
        """Until every plot is drawn and nothing is measured any more."""
        self.page.wait_for_function(
            """() => {
              const parts = selector => [...document.querySelectorAll(selector)]
              const plots = parts('.spectralkd-plot')
              return plots.length && plots.every(plot => plot.querySelector('.main-svg'))
                && !parts('.main-svg text').some(t => t.textContent.includes('Measuring'))
                && !document.body.innerText.includes('Measuring ')
            }""",
            timeout=1000 * seconds,
        )

    def shots(self) -> list[bytes]:
        """Each cell's widget as a PNG."""
        return [output.screenshot() for output in self.widgets().all()]

    def widgets(self) -> Any:
        """The outermost part of each cell's widget."""
        return self.page.locator(
            ".jp-OutputArea-output .widget-vbox:not(.widget-vbox .widget-vbox)"
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Have JupyterLab do something, without waiting for it."""
        words = f"'{name}', {json.dumps(arguments)}"
        self.page.evaluate(f"() => {{ window.jupyterapp.commands.execute({words}) }}")

    def failures(self) -> list[str]:
        """Errors that cells put out."""
        found: list[str] = self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets
              .flatMap(cell => cell.model.outputs?.toJSON() ?? [])
              .filter(output => output.output_type == 'error')
              .map(output => output.ename + ': ' + output.evalue)"""
        )
        return found


@contextmanager
def browser(width: int = 1400, height: int = 1000) -> Iterator[Any]:
    """A fresh Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *(f"--disable-{x}" for x in _QUIET)]
        )
        yield chromium.new_context(viewport={"width": width, "height": height})
        chromium.close()


def _wait_for(address: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
