"""Does the code of the pages run, print what they show, and is that right?"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from own_parts import LogitMSE, few, tiny
from plane import field, modes_by_ring, noise, transform

import spectralkd as skd

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("radial_power_spectrum", "fourier_ring_correlation")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)


def test_a_loss_in_a_loop_and_spectra_of_a_network() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    names: dict[str, Any] = {"loader": [(images, torch.arange(4))]}
    printed = run_blocks(ROOT / "README.md", names)
    assert all(torch.isfinite(p).all() for p in names["distiller"].trainable_parameters())
    lines = printed[1].splitlines()
    assert [line.split()[0] for line in lines] == ["conv1", "layer1.1.relu:input"]
    exponents = [float(n) for n in re.findall(r"exponent=(-?\d+\.\d+)", printed[1])]
    assert all(-4 < exponent < 0 for exponent in exponents)
    assert len(exponents) == 2


def test_a_transformer_and_a_cnn_are_paired() -> None:
    names: dict[str, Any] = {"skd": skd, "some_images": torch.rand(2, 3, 224, 224)}
    create = skd.create_model
    with mock.patch.object(skd, "create_model", lambda name, **_: create(name)):  # no download
        run_blocks(ROOT / "docs" / "networks.md", names)
    assert len(names["pairs"]) == 2


def test_own_parts_are_registered() -> None:
    names: dict[str, Any] = {"MyMethod": LogitMSE, "my_network": tiny, "my_images": few}
    names |= {"skd": skd, "teacher": tiny(3), "student": tiny(3)}
    registries = (skd.METHODS, skd.MODELS, skd.DATASETS)
    with contextlib.ExitStack() as stack:
        for registry in registries:
            stack.enter_context(mock.patch.dict(registry))
        run_blocks(ROOT / "docs" / "extending.md", names)
        assert [registry["mine"] for registry in registries] == [LogitMSE, tiny, few]


def run_blocks(page: Path, names: dict[str, Any]) -> list[str]:
    """What each block of a page prints; names are defined before and after."""
    said = []
    for code, _ in BLOCK.findall(page.read_text()):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        said.append(printed.getvalue())
    return said


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], list[tuple[str, str]]]:
    """Name of a page, what its blocks define, and what each was to print and printed."""
    pytest.importorskip("powerbox")
    names: dict[str, Any] = {}
    path = ROOT / "docs" / f"{request.param}.md"
    stored = [text for _, text in BLOCK.findall(path.read_text())]
    return request.param, names, list(zip(stored, run_blocks(path, names), strict=True))


def test_the_blocks_print_what_the_page_shows(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    compare = importlib.import_module("compare")
    _, _, said = page
    assert len(said) >= 5
    for stored, printed in said:
        assert not compare.difference(stored, printed)


def test_what_the_blocks_define_is_right(page: Any) -> None:
    name, names, _ = page
    if name == "radial_power_spectrum":
        for size in (8, 15):
            image = noise(size, size, dtype=torch.float64)
            expected = _azimuthal_average(image)
            torch.testing.assert_close(names["azimuthal_average"](image), expected)
        image = noise(6, 6, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(names["azimuthal_average"], image)
    else:
        frequency = torch.arange(8) / 16
        assert names["resolution"](1 - 2 * frequency, frequency, 0.3) == pytest.approx(1 / 0.35)
        x, y = (field(5, 16, -1, seed=seed)[:, 0] for seed in (0, 1))
        y = x + y
        torch.testing.assert_close(names["pooled_correlation"](x, y), _pooled(x, y))


def _azimuthal_average(image: torch.Tensor) -> torch.Tensor:
    """Pixel by pixel: 20 ln|F| of the shifted plane, by floor of the distance from its middle."""
    size = len(image)
    modes, rings = transform(image) * size, {}
    for row in range(size):
        for column in range(size):
            ring = int(math.hypot(row - (size - 1) / 2, column - (size - 1) / 2))
            mode = complex(modes[row - size // 2, column - size // 2])
            rings.setdefault(ring, []).append(20 * math.log(abs(mode)))
    means = [sum(rings[r]) / len(rings[r]) for r in range(1, max(rings))]
    curve = torch.tensor(means, dtype=torch.float64)
    return (curve - curve.min()) / (curve.max() - curve.min())


def _pooled(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sums over the modes of a ring and all pairs."""
    fx, fy, curve = transform(x), transform(y), []
    for modes in modes_by_ring(*x.shape[-2:]).values():
        a, b = (torch.stack([f[:, ky, kx] for ky, kx in modes]) for f in (fx, fy))
        power = a.abs().square().sum() * b.abs().square().sum()
        curve.append((a * b.conj()).real.sum() / power.sqrt())
    return torch.stack(curve)
