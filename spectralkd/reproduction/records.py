"""Results of the study: a JSON file for each run, written by runs only.

The package's own are in ``recorded`` and are only read; a user's runs write theirs to a folder of
the user's, which is read beside the package's.

A record of a run holds its ``config`` (with versions and device), all ``method_options``, its
``metrics`` (a line an epoch) and ``weights_sha256``, one of a student also its ``agreement`` with
the teacher; a record of a measurement holds ``spectra`` and ``correlations``, or ``scrambling``.
``full`` records are the paper's setups as they are, ``short`` ones shorter runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from spectralkd.analysis.sensitivity import RingScrambling
from spectralkd.checks import check_choice
from spectralkd.spectra.power import Ring, Spectrum
from spectralkd.training.run_folder import read_json, write_whole

Size = Literal["full", "short"]
Record = dict[str, Any]

PACKAGED = Path(__file__).parent / "recorded"


def read_records(size: Size, folder: str | Path | None = None) -> dict[str, Record]:
    """All records of a size by name.

    Args:
        size: ``"full"`` or ``"short"``.
        folder: of the user's records, which replace the package's of the same names; default:
            the package's alone.

    Raises:
        ValueError: an unknown size; a damaged record, which is named.
    """
    check_choice("size", size, Size)
    places = [PACKAGED, *([Path(folder)] if folder else [])]
    return {
        path.stem: read_json(path)
        for place in places
        for path in sorted((place / size).glob("*.json"))
    }


def write_record(name: str, size: Size, record: Record, folder: str | Path) -> None:
    """Store a record in a folder of the user's."""
    path = Path(folder) / size / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, separators=(",", ":"))
    write_whole(path, text.replace("},{", "},\n{").encode() + b"\n")


def spectrum_to_json(spectrum: Spectrum) -> dict[str, Any]:
    """A spectrum in JSON's types, six digits each."""
    values = {
        name: six_digits(getattr(spectrum, name)) for name in ("frequency", "power", "stderr")
    }
    rest = {"samples": spectrum.samples, "ring": spectrum.ring}
    return values | {"modes": spectrum.modes.tolist()} | rest


def six_digits(values: torch.Tensor) -> list[float]:
    """Values of a tensor (N,), six significant digits each."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def spectrum_from_json(stored: dict[str, Any]) -> Spectrum:
    """The spectrum that ``spectrum_to_json`` wrote."""
    frequency, power, stderr = (
        torch.tensor(stored[name], dtype=torch.float64) for name in ("frequency", "power", "stderr")
    )
    ring: Ring = stored["ring"]
    modes = torch.tensor(stored["modes"])
    return Spectrum(frequency, power, stderr, modes, stored["samples"], ring)


def scrambling_to_json(result: RingScrambling) -> dict[str, Any]:
    """Errors under scrambled rings in JSON's types, six decimal places."""
    return {
        name: [round(float(v), 6) for v in value] if isinstance(value, torch.Tensor) else value
        for name, value in result._asdict().items()
    }


def scrambling_from_json(stored: dict[str, Any]) -> RingScrambling:
    """What ``scrambling_to_json`` wrote."""
    values: dict[str, Any] = {
        name: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
        for name, value in stored.items()
    }
    return RingScrambling(**values)
