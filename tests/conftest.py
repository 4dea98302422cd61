"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets, from SPECTRALKD_DATA or beside the project; else the test skips."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("SPECTRALKD_DATA") or beside)
    if not (root / "cifar-100-python").is_dir():
        pytest.skip("no CIFAR-100: set SPECTRALKD_DATA to a folder that holds it")
    return root
