"""Does anything wrong get through? Inputs that nobody means, drawn at random."""

# ruff: noqa: PT017 (an accepted input is checked, too)

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import attack
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from spectralkd.data.folder import open_image
from spectralkd.models import create_model
from spectralkd.models.weights import load_weights
from spectralkd.spectra.correlation import (
    correlation_function,
    correlation_length,
    ring_correlation,
)
from spectralkd.spectra.power import RadialPowerSpectrum, power_plane, radial_power
from spectralkd.spectra.powerlaw import fit_correlation_law, fit_power_law
from spectralkd.training.lock import holder
from spectralkd.training.recipes import get_recipe, parse_value, recipe_options
from spectralkd.training.run_folder import Run

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OTHERS = (torch.int64, torch.uint8, torch.bool, torch.complex64)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Half of them maps of moderate scale; of any shape, kind, layout and scale the others."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    if draw(st.booleans()):
        sides = [draw(st.integers(1, 3)), *(draw(st.sampled_from([4, 5, 8, 17])) for _ in "hw")]
        maps = torch.randn(sides, generator=generator, dtype=torch.float64)
        return (maps * 10.0 ** draw(st.integers(-3, 3))).to(draw(st.sampled_from(FLOATS)))
    sides = draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=2))
    sides += draw(st.lists(st.sampled_from([0, 3, 4, 5, 8, 17]), max_size=2))
    x = torch.randn(sides, generator=generator, dtype=torch.float64)
    x = x * 10.0 ** draw(st.integers(-30, 30))
    x = x.to(draw(st.sampled_from(FLOATS * 3 + OTHERS)))
    if x.numel() and x.is_floating_point() and draw(st.integers(0, 5)) == 0:
        x.view(-1)[-1] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    kind = draw(st.sampled_from(["plain"] * 6 + ["sparse", "meta", "strided", "grad", "zero"]))
    if kind == "sparse" and x.ndim:
        return x.to_sparse()
    if kind == "strided":
        return x.T.contiguous().T if x.ndim == 2 else x.transpose(0, -1) if x.ndim else x
    if kind == "grad" and x.is_floating_point():
        return x.requires_grad_()
    return {"meta": x.to("meta"), "zero": torch.zeros_like(x)}.get(kind, x)


def accepted(name: str, function: Any, *args: Any) -> Any:
    """What a function returns, or None where it refuses its argument by name."""
    try:
        return function(*args)
    except (ValueError, TypeError) as error:
        assert str(error).startswith(name), repr(error)
        assert "expected" in str(error), repr(error)
        return None


def test_spectra_are_right_or_refused() -> None:
    taken = []

    @given(tensors())
    def check(x: Tensor) -> None:
        for function in (radial_power, power_plane):
            power = accepted("x: ", function, x)
            if power is not None:
                taken.append(power.numel() > 0)
                assert power.shape[: x.ndim - 2] == x.shape[:-2]
                expected = function(x.detach().double())
                largest = float(expected.abs().max()) if expected.numel() else 0.0
                torch.testing.assert_close(
                    power.detach().double(), expected, rtol=1e-3, atol=1e-3 * largest
                )
        spectrum = RadialPowerSpectrum()
        accepted("maps: ", spectrum.update, x)
        spectrum.update(torch.ones(2, 1, *(spectrum.size.tolist() if spectrum.samples else (8, 8))))
        assert torch.isfinite(spectrum.compute().power).all()

    check()
    assert 50 <= sum(taken) <= 180  # of 200


def test_correlations_are_right_or_refused() -> None:
    taken = []

    @given(tensors(), st.integers(-30, 30))
    def check(x: Tensor, exponent: int) -> None:
        correlation = accepted("x: ", ring_correlation, x, x)
        if correlation is not None:
            taken.append(correlation.numel() > 0)
            dead = (x.detach() == 0).flatten(-2).all(-1)
            assert (correlation.detach()[..., 1:].abs() <= 1 + 1e-5).all()
            first = correlation.detach()[~dead][..., 0]
            torch.testing.assert_close(first, torch.ones_like(first), rtol=0, atol=1e-2)
            y = 10.0**exponent * torch.ones_like(x.detach(), dtype=torch.float64)
            assert torch.isfinite(ring_correlation(x.detach(), y)).all()
        found = accepted("x: ", correlation_function, x)
        if found is not None:
            taken.append(found[1].numel() > 0)
            assert torch.isfinite(found[1]).all()
            dead_too = (found[1][..., 0] == 0).any()
            assert not torch.isnan(correlation_length(*found)).any() or dead_too

    check()
    assert 50 <= sum(taken) <= 180  # of 200


numbers = st.floats(allow_nan=True, allow_infinity=True)
points = st.tuples(st.sampled_from((0.1, 0.2, 0.3, 0.4)) | numbers, st.floats(1e-3, 1) | numbers)
bands = st.just((0.01, 1.0)) | st.tuples(numbers, numbers)


@given(st.lists(points, min_size=1, max_size=12), bands)
def test_laws_are_finite_or_refused(
    points: list[tuple[float, float]], band: tuple[float, float]
) -> None:
    x, y = torch.tensor(points, dtype=torch.float64).T
    for function in (fit_power_law, lambda *a, band: fit_correlation_law(*a, -1.0, band=band)):
        try:
            law = function(x, y, band=band)
        except ValueError as error:
            assert "expected" in str(error)
        else:
            *values, _ = vars(law).values()  # the last is the band
            assert all(map(math.isfinite, values))


words = st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=5)


@given(st.sampled_from(sorted(recipe_options())), words)
def test_settings_are_finite_or_refused_by_name(name: str, value: Any) -> None:
    try:
        recipe = get_recipe("demo", **{name: value})
    except (ValueError, TypeError) as error:
        assert str(error).startswith(f"{name}: expected")
    else:
        json.dumps(vars(recipe))
        assert not isinstance(value, float) or math.isfinite(value)


@given(st.sampled_from(sorted(recipe_options())), st.text(max_size=8))
def test_texts_are_values_or_refused_by_name(name: str, text: str) -> None:
    kind = recipe_options()[name][0]
    try:
        value = parse_value(name, kind, text)
    except ValueError as error:
        assert str(error).startswith(f"{name}: expected")
    else:
        words = value if isinstance(value, tuple) else [] if value is None else [value]
        again = ",".join(map(str, words))
        assert repr(parse_value(name, kind, again)) == repr(value)


lines = st.lists(
    st.sampled_from([b'{"epoch": 1}', b"", b" ", b"{", b"[]", b"null", b"\xff", b"1"]), max_size=5
)


@given(lines, st.booleans())
def test_metrics_are_read_whole_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[bytes], cut: bool
) -> None:
    run = Run(tmp_path_factory.getbasetemp())
    text = b"\n".join(given_lines) + (b"" if cut else b"\n")
    run.metrics_file.write_bytes(text)
    sound = sum(line == b'{"epoch": 1}' for line in given_lines)
    try:
        assert len(run.read_metrics()) == sound
        run.keep_metrics(sound)
    except ValueError as error:
        assert "metrics.jsonl: expected" in str(error)
        assert run.metrics_file.read_bytes() == text
    assert run.metrics_file.read_bytes().count(b'{"epoch": 1}') == sound


def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).save(buffer, "PNG")
    return buffer.getvalue()


@given(st.binary(max_size=200) | st.tuples(st.integers(0, 200), st.binary(max_size=4)))
def test_images_are_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.png"
    if isinstance(content, tuple):
        at, put = content
        content = png()[:at] + put + png()[at + len(put) :]
    path.write_bytes(content)
    try:
        assert open_image(str(path)).mode == "RGB"
    except ValueError as error:
        assert str(error).startswith(f"{path}: not a readable image: ")


@given(st.binary(max_size=300))
def test_weights_are_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    model = create_model("wrn10_1", 3)
    for suffix in ("pt", "safetensors"):
        path = tmp_path_factory.getbasetemp() / f"w.{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights: .*w\.(pt|safetensors)"):
            load_weights(model, path)


# --- parts of attack.py ---------------------------------------------------------------------------


def test_nonsense_on_the_command_line_ends_in_one_line(tmp_path: Path) -> None:
    one_of_each = {}
    for number, call in enumerate(attack.nonsense_calls()):
        words = [str(word) for word in call]
        one_of_each.setdefault((words[0], *words[-2:-1]), []).append((number, call))
    chosen = [calls[calls[0][0] % len(calls)][1] for calls in one_of_each.values()]
    assert len(chosen) >= 100
    assert [*filter(None, (attack.complaint(call, tmp_path) for call in chosen))] == []


def test_two_processes_on_one_folder_lose_and_double_no_line(tmp_path: Path) -> None:
    assert attack.compete(tmp_path, seed=0, kills=1) == ""
    assert holder(tmp_path / "run") is None
