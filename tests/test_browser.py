"""Does it work as a person would use it: in JupyterLab, in a browser, with keys and clicks?

The tests of a page use it one after the other, as a person would: starting a server, a browser and
a kernel takes longer than what is asked of them. Any error in the browser's console fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
import pytest
import torch

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from lab import CHROMIUM, Page, browser, jupyterlab  # noqa: E402

from spectralkd.figures.lines import lines_figure  # noqa: E402
from spectralkd.figures.report import write_report  # noqa: E402
from spectralkd.spectra.power import radial_power  # noqa: E402
from spectralkd.spectra.rings import ring_frequencies  # noqa: E402
from spectralkd.training.launch import stop  # noqa: E402
from spectralkd.training.run_folder import find_runs  # noqa: E402

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in the PATH")

# Two explorers, one of which can show a network that takes its time, and the other two widgets.
WIDGETS = """
import time
import torch
import spectralkd as skd
from spectralkd.widgets.explorer import SpectrumExplorer
from spectralkd.widgets.map_comparison import MapComparison
from spectralkd.widgets.teacher_student import TeacherStudent

class Slow(torch.nn.Conv2d):
    def forward(self, x):
        time.sleep(0.3 if len(x) > 2 else 0)
        return super().forward(x)

torch.manual_seed(0)
torch.set_num_threads(1)
quick = skd.create_model("wrn10_1")
slow = torch.nn.Sequential(*(Slow(3, 3, 3, padding=1) for _ in range(40)))
photos = skd.load_data("photos").subset(60)
maps = next(iter(photos.batches(8)))[0].mean(1)
===
SpectrumExplorer({"quick": quick, "slow": slow}, {"a": photos, "b": photos.subset(50)})
===
SpectrumExplorer({"quick": quick}, photos)
===
MapComparison(maps, -0.3)
===
TeacherStudent(quick, {"itself": quick}, photos)
"""
ZOO = """
import spectralkd as skd
from spectralkd.widgets.explorer import SpectrumExplorer

names = {"ViT": "timm/vit_tiny_patch16_224", "ConvNeXt": "torchvision/convnext_tiny"}
networks = {key: skd.create_model(name) for key, name in names.items()}
SpectrumExplorer(networks, skd.load_data("photos", image_size=224), images=4)
"""
BUSY_PAGE = """
import torch
from spectralkd.widgets.map_comparison import MapComparison

MapComparison(torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(0)), -0.3)
"""
PANEL = """
from spectralkd.widgets.run_panel import RunPanel

RunPanel("runs")
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("lab")
    for name, source in {"widgets": WIDGETS, "zoo": ZOO, "panel": PANEL, "busy": BUSY_PAGE}.items():
        cells = [nbformat.v4.new_code_cell(text.strip()) for text in source.split("===")]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    with jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield address
    for run in find_runs(folder / "runs"):
        with suppress(OSError, ValueError):  # it is stopped
            stop(run)


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with browser() as context:
        yield context


@pytest.fixture(scope="module")
def widgets(context: Any, address: str) -> Iterator[Page]:
    page = Page(context, address, "widgets.ipynb")
    page.run_all()
    page.wait_for_widgets()
    yield page
    page.page.close()


def until(page: Page, what: str, seconds: float = 90) -> Any:
    """Wait until a JavaScript expression is true; its value."""
    return page.page.wait_for_function(f"() => {what}", timeout=1000 * seconds).json_value()


# What anywidget says where a page was busy for two seconds; our widgets go on.
BUSY = "[anywidget] Failed to initialize model."


def sound(page: Page) -> None:
    """Nothing failed: no cell, no script, no console."""
    assert page.failures() == []
    assert [error for error in page.errors if not error.startswith(BUSY)] == []


PLOTS = "[...document.querySelectorAll('.spectralkd-plot .js-plotly-plot')]"
# The figures' numbers, as plotly draws them.
DRAWN = f"""JSON.stringify({PLOTS}.map(p => (p.calcdata ?? []).map((curve, n) =>
  [p._fullData[n].name, p._fullData[n].z?.[0]?.[0], curve.map(point => [point.x, point.y])])))"""


def names(number: int) -> str:
    """JavaScript for the names of a plot's curves, as one text."""
    return f"({PLOTS}[{number}]._fullData ?? []).map(trace => trace.name).join(' ')"


def text(number: int) -> str:
    """JavaScript for the words in a plot."""
    return f"[...{PLOTS}[{number}].querySelectorAll('text')].map(t => t.textContent).join(' ')"


def test_two_explorers_live_beside_each_other(widgets: Page) -> None:
    first, second = 0, 3  # each has three plots
    until(widgets, f"{names(first)}.includes('images: α') && {names(second)}.includes('images: α')")
    ticks = widgets.page.locator(".spectralkd-ticks").first
    ticks.get_by_role("button", name="none", exact=True).click()
    until(widgets, f"{text(first)}.includes('Tick a layer')")
    assert "images" not in widgets.page.evaluate(names(first))
    assert "images: α" in widgets.page.evaluate(names(second))
    ticks.get_by_role("button", name="blocks", exact=True).click()
    until(widgets, f"{names(first)}.includes('group2.0: α')")
    sound(widgets)


def test_what_is_drawn_belongs_to_the_settings(widgets: Page) -> None:
    page, first = widgets.page, 0
    page.get_by_label("Network", exact=True).first.select_option("slow")
    until(widgets, "/Measuring 39.*left/.test(document.body.innerText)")
    assert "images: α" in page.evaluate(names(first))
    assert "group" not in page.evaluate(names(first))
    page.get_by_role("button", name="Cancel", exact=True).first.click()
    until(widgets, "document.body.innerText.includes('cancelled')")
    page.get_by_role("button", name="Measure again", exact=True).first.click()
    until(widgets, "document.body.innerText.includes('Measuring 39')")
    page.get_by_label("Network", exact=True).first.select_option("quick")  # abandons it
    until(widgets, f"{names(first)}.includes('group3: α')", 20)
    page.get_by_label("Images", exact=True).first.select_option("b")
    widgets.wait_for_widgets()
    page.get_by_role("button", name="Reset", exact=True).first.click()
    widgets.wait_for_widgets()
    sound(widgets)


def settled(widgets: Page) -> str:
    """What is drawn, once it has been the same for a second."""
    widgets.wait_for_widgets()
    before = None
    while (drawn := widgets.page.evaluate(DRAWN)) != before:
        before = drawn
        widgets.page.wait_for_timeout(1000)
    return str(drawn)


@pytest.mark.parametrize("again", ["reload", "reopen"])
def test_figures_survive(widgets: Page, again: str) -> None:
    first = settled(widgets)
    widgets.page.get_by_label("Shift (pixels)", exact=True).first.press("ArrowRight")
    until(widgets, f"{DRAWN} != {first!r}")
    before = settled(widgets)
    if again == "reload":
        widgets.reload()
    else:
        widgets.reopen()
    widgets.wait_for_widgets()
    until(widgets, f"{DRAWN} == {before!r}")
    sound(widgets)


def test_widgets_hear_their_kernel_also_where_the_page_was_busy(context: Any, address: str) -> None:
    hasty = context.browser.new_context()
    hasty.add_init_script(
        "const wait = AbortSignal.timeout.bind(AbortSignal)\n"
        "AbortSignal.timeout = ms => wait(ms == 2000 ? 0 : ms)"
    )
    page = Page(hasty, address, "busy.ipynb")
    page.run_all()
    page.wait_for_widgets()
    before = page.page.evaluate(DRAWN)
    page.page.get_by_label("Shift (pixels)", exact=True).press("ArrowRight")
    until(page, f"{DRAWN} != {before!r}")
    assert any(error.startswith(BUSY) for error in page.errors)
    sound(page)
    hasty.close()


# What is cut off at the right end of a widget.
BEYOND = """outer => {
  const end = outer.getBoundingClientRect().right + 1
  return [...outer.querySelectorAll('.jupyter-widgets')]
    .filter(e => e.getBoundingClientRect().right > end)
    .map(e => e.className + ': ' + e.innerText.slice(0, 40))
}"""


# Titles of panels that lie over each other.
CROWDED = f"""{PLOTS}.map(plot => {{
  const boxes = [...plot.querySelectorAll('.annotation')].map(e => e.getBoundingClientRect())
  return boxes.filter((a, n) => boxes.some((b, m) => m > n && a.right > b.left
    && b.right > a.left && a.bottom > b.top && b.bottom > a.top)).length
}})"""


def test_both_themes_and_a_narrow_window(widgets: Page) -> None:
    page = widgets.page
    ink = f"getComputedStyle({PLOTS}[0].querySelector('.xtitle')).fill"
    light = until(widgets, ink)
    widgets.command("apputils:change-theme", theme="JupyterLab Dark")
    until(widgets, f"{ink} != '{light}'")
    assert min(map(int, until(widgets, f"{ink}.match(/[0-9]+/g).slice(0, 3)"))) > 128
    page.set_viewport_size({"width": 1000, "height": 900})
    until(widgets, f"{PLOTS}.every(plot => plot.clientWidth < 700)")
    assert widgets.widgets().count() == 4
    for widget in widgets.widgets().all():
        assert widget.evaluate(BEYOND) == []
    page.set_viewport_size({"width": 800, "height": 900})  # panels scroll
    until(widgets, f"{PLOTS}.every(p => !p._fullLayout.xaxis2 || p._fullLayout.width == 640)")
    assert set(page.evaluate(CROWDED)) == {0}
    page.set_viewport_size({"width": 1400, "height": 1000})
    widgets.command("apputils:change-theme", theme="JupyterLab Light")
    until(widgets, f"{ink} == '{light}'")
    sound(widgets)


@pytest.mark.parametrize(("kind", "begins"), [("SVG", b"<svg"), ("HTML", b"<!doctype html>")])
def test_figures_are_saved(widgets: Page, kind: str, begins: bytes) -> None:
    with widgets.page.expect_download() as saved:
        widgets.page.get_by_role("button", name=kind, exact=True).first.click()
    assert saved.value.suggested_filename == f"power-spectra.{kind.lower()}"
    content = Path(saved.value.path()).read_bytes()
    assert content.startswith(begins)
    assert "images: α".encode() in content or b"images: \\u03b1" in content
    sound(widgets)


SPECTRA = f"{PLOTS}[0]"  # plotly keeps the drawn numbers there


def test_the_explorer_follows_the_keyboard(widgets: Page) -> None:
    page = widgets
    assert nameless(page) == []
    fit = f"{SPECTRA}._fullData[1]?.name"
    drawn = f"JSON.stringify({SPECTRA}.calcdata[2].map(p => [p.x, p.y]))"
    axis = f"JSON.stringify({SPECTRA}._fullLayout.yaxis.range)"
    curve = f"{SPECTRA}.calcdata[1].length"
    before = [page.page.evaluate(what) for what in (fit, drawn, axis, curve)]
    assert "images: α = " in before[0]

    handle = page.page.locator(".widget-slider .noUi-handle").first
    assert handle.get_attribute("aria-label") == "Fit from, to (cycles/pixel), lower end"
    handle.focus()
    page.page.evaluate(
        f"""() => {{
          const figure = {SPECTRA}
          let name
          addEventListener('keydown', () => {{
            [name, window.seen, window.begun] = [{fit}, null, performance.now()]
          }}, true)
          figure.on('plotly_afterplot', () => {{
            if ({fit} != name) window.seen ??= performance.now()
          }})
        }}"""
    )
    taken = []
    for key in ["ArrowRight", "ArrowLeft"] * 3 + ["ArrowRight"]:
        page.page.keyboard.press(key)
        until(page, "window.seen != null")
        taken.append(page.page.evaluate("window.seen - window.begun"))
    after = [page.page.evaluate(what) for what in (fit, drawn, axis, curve)]
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert after[2:] == before[2:]
    print(f"from a key to the drawn fit: {median(taken):.0f} ms, at most {max(taken):.0f} ms")
    # 100 ms are the aim; a busy machine of two cores is given five times as long.
    assert median(taken) < 500

    page.page.get_by_label("Search layers", exact=True).first.fill("conv")
    page.page.get_by_label("conv", exact=True).first.check()
    until(page, f"{SPECTRA}._fullData.some(trace => trace.name?.startsWith('conv'))")
    sound(page)


@pytest.mark.parametrize("width", [1000, 390])
def test_the_legends_of_a_written_page_are_inside_its_figures(
    context: Any, tmp_path: Path, width: int
) -> None:
    rings = {name: radial_power(torch.randn(16, 16)) for name in ("first", "second", "third")}
    frequency = ring_frequencies(16, 16)
    figure = lines_figure(frequency, rings, x_label="|k| (cycles/pixel)", y_label="power")
    write_report(tmp_path / "page.html", "A page", [("Lines", figure)])
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"file://{tmp_path}/page.html")
    page.wait_for_selector(".legend")
    plot, legend = (page.locator(css).bounding_box() for css in (".js-plotly-plot", ".legend"))
    assert legend["height"] > 15
    assert legend["y"] + legend["height"] <= plot["y"] + plot["height"]
    page.close()


def test_the_explorer_shows_a_transformer_and_a_convnext(context: Any, address: str) -> None:
    page = Page(context, address, "zoo.ipynb")
    page.run_all()
    rows = "[...document.querySelectorAll('.jupyter-widgets table tr')]"
    cells = "[...row.cells].slice(0, 3).map(cell => cell.innerText).join(' ')"

    def shown(*expected: str) -> None:
        until(page, f"{rows}.some(row => {cells} == '{' '.join(expected)}')")

    shown("blocks.11", "14×14", "tokens")
    page.page.get_by_label("Network", exact=True).select_option("ConvNeXt")
    shown("features.5", "14×14", "nchw")  # a stage ends in a permutation of its axes
    page.page.get_by_label("features.5.0.block.2", exact=True).check()
    shown("features.5.0.block.2", "14×14", "nhwc")
    until(page, f"{names(0)}.includes('features.5.0.block.2: α')")
    sound(page)
    page.page.close()


def nameless(page: Page) -> list[str]:
    """Inputs that a screen reader cannot name."""
    found: list[str] = page.page.evaluate(
        """() => [...document.querySelectorAll('.jupyter-widgets :is(input, select, textarea)')]
          .filter(e => !e.labels?.length && !e.getAttribute('aria-label') && !e.title)
          .map(e => e.outerHTML)"""
    )
    return found


def test_the_panel_launches_stops_resumes_and_attaches(context: Any, address: str) -> None:
    page = Page(context, address, "panel.ipynb")
    page.run_all()
    assert nameless(page) == []
    form = page.page

    def fill(label: str, value: str) -> None:
        box = form.get_by_label(label, exact=True).first
        box.fill(value)
        box.press("Tab")

    launch, stop_it = (form.get_by_role("button", name=n, exact=True) for n in ("Launch", "Stop"))
    fill("Name of the run", "../evil")
    until(page, "document.body.innerText.includes('Cannot be launched')")
    assert launch.is_disabled()
    fill("Name of the run", "tiny")
    fill("train images", "300")
    fill("teacher model", "wrn10_1")  # small: its epochs are short
    fill("epochs", "1000")  # longer than the test: it is stopped
    until(page, "document.body.innerText.includes('--train-images 300')")
    launch.click()
    rows = "[...document.querySelectorAll('.jupyter-widgets tr')]"
    row = f"{rows}.find(row => row.cells[0].innerText == 'tiny')"
    state = f"{row}?.cells[1].innerText"
    points = (  # epochs of the teacher that the run trains first
        f"Math.max(0, ...{PLOTS}.flatMap(f => f._fullData ?? [])"
        ".filter(t => t.name == 'tiny/teacher').map(t => t.x.length))"
    )
    first = until(page, f"{points} >= 1 && {points}", 120)
    until(page, f"{points} > {first}", 120)
    until(page, f"{state} == 'training its teacher' && / of 1000/.test({row}.innerText)")
    form.get_by_label("Chosen run", exact=True).select_option("tiny")
    stop_it.click()
    until(page, f"{state} == 'stopped'")
    stopped = page.page.evaluate(points)
    time.sleep(2)
    assert page.page.evaluate(points) == stopped

    form.get_by_role("button", name="Resume", exact=True).click()
    until(page, f"{points} > {stopped}", 120)
    page.command("kernelmenu:restart")
    form.locator(".jp-Dialog .jp-mod-accept").click()
    page.wait_for_kernel()
    page.run_all()
    until(page, f"{state} == 'training its teacher'")
    attached = until(page, f"{points} > {stopped} && {points}")
    until(page, f"{points} > {attached}", 120)
    form.get_by_label("Chosen run", exact=True).select_option("tiny")
    stop_it.click()
    until(page, f"{state} == 'stopped'")
    sound(page)
    page.page.close()
